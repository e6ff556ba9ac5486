"""What must hold after any run, whatever was killed, frozen or cut off in it.

- A: every record that was acknowledged is there, and has exactly one answer: a result, or a dead letter where
  it is no request.
- B: the results of a partition stand on their topic in the order of the requests, each once.
- C: the sink's offsets never go back, end where the results end, and the rows are the results.
- D: every answer is the oracle's.
- E: after each fault progress resumes within its bound.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from tests.chaos.history import Answered, Expectation, History, Row, Sent

SHOWN = 5


class Violation(msgspec.Struct, frozen=True):
    """An invariant that does not hold, and where that shows."""

    invariant: str
    message: str


def check(history: History) -> list[Violation]:
    """Every way in which a run breaks an invariant."""
    found = []
    for name, rule in _RULES.items():
        messages = list(rule(history))
        found += [Violation(name, message) for message in messages[:SHOWN]]
        if len(messages) > SHOWN:
            found.append(Violation(name, f"and {len(messages) - SHOWN} more"))
    return found


def _all_there(history: History) -> Iterator[str]:
    there = {(one.partition, one.offset) for one in history.sent}
    for place in history.acknowledged:
        if place not in there:
            yield f"the request at {place} was acknowledged, and is not on its topic"


def _answered(history: History) -> Iterator[str]:
    for sent, results, letters, wanted in _answers(history):
        if results < wanted[0] or letters < wanted[1]:
            yield f"{sent.request_id} at {(sent.partition, sent.offset)} has no answer"


def _answered_once(history: History) -> Iterator[str]:
    for sent, results, letters, wanted in _answers(history):
        if results > wanted[0] or letters > wanted[1]:
            yield (
                f"{sent.request_id} at {(sent.partition, sent.offset)} has {results} results and {letters} "
                f"dead letters, not {wanted[0]} and {wanted[1]}"
            )
    known = {(one.partition, one.offset) for one in history.sent}
    answered = {(one.source_partition, one.source_offset) for one in history.answered}
    buried = {(one.source_partition, one.source_offset) for one in history.buried}
    for place in (answered | buried) - known:
        yield f"there is an answer to {place}, where nobody sent anything"


def _answers(history: History) -> Iterator[tuple[Sent, int, int, tuple[int, int]]]:
    """Each request, how many results and dead letters it has, and how many it should have."""
    results = Counter((one.source_partition, one.source_offset) for one in history.answered)
    letters = Counter((one.source_partition, one.source_offset) for one in history.buried)
    for sent in history.sent:
        place = sent.partition, sent.offset
        wanted = (0, 1) if sent.expected.kind == "dead" else (1, int(_keeps_letter(sent.expected)))
        yield sent, results[place], letters[place], wanted


def _keeps_letter(expected: Expectation) -> bool:
    return expected.detail in ("module_crashed", "module_timeout")


def _in_order(history: History) -> Iterator[str]:
    last: dict[int, tuple[int, int]] = {}
    for one in sorted(history.answered, key=lambda one: (one.partition, one.offset)):
        before = last.get(one.source_partition)
        if before is not None and before[0] != one.partition:
            yield f"results of partition {one.source_partition} are in {before[0]} and in {one.partition}"
        elif before is not None and one.source_offset <= before[1]:
            yield (
                f"{one.request_id}: the result of offset {one.source_offset} of partition "
                f"{one.source_partition} comes after that of {before[1]}"
            )
        last[one.source_partition] = one.partition, max(one.source_offset, before[1] if before else -1)


def _committed_to_the_end(history: History) -> Iterator[str]:
    ends: dict[int, int] = defaultdict(int)
    for sent in history.sent:
        ends[sent.partition] = max(ends[sent.partition], sent.offset + 1)
    for partition, end in ends.items():
        committed = history.committed.get(partition, 0)
        if committed < end:
            yield f"partition {partition}: {committed} is committed, and not {end}"


def _sink(history: History) -> Iterator[str]:
    before: dict[int, int] = {}
    for look in history.looks:
        for partition, offset in look.next_offsets.items():
            if offset < before.get(partition, 0):
                yield f"{look.at:%H:%M:%S}: the sink fell from {before[partition]} to {offset} in {partition}"
            before[partition] = offset
    for partition, end in history.result_ends.items():
        if before.get(partition, 0) < end:
            yield f"the sink has stored partition {partition} up to {before.get(partition, 0)}, and not {end}"
    rows = Counter(map(_identity, history.rows))
    results = set(map(_identity, history.answered))
    for row, count in rows.items():
        if row not in results:
            yield f"the row of {row[2]} at {row[:2]} is no result"
        elif count > 1:
            yield f"{row[2]} at {row[:2]} has {count} rows"
    for result in results - rows.keys():
        yield f"the result of {result[2]} at {result[:2]} has no row"


def _identity(one: Row | Answered) -> tuple[int, int, str, Expectation, datetime]:
    return one.source_partition, one.source_offset, one.request_id, one.answer, one.analyzed_at


def _as_expected(history: History) -> Iterator[str]:
    expected = {(one.partition, one.offset): one for one in history.sent}
    for one in history.answered:
        sent = expected.get((one.source_partition, one.source_offset))
        if sent is not None and (sent.request_id, sent.expected) != (one.request_id, one.answer):
            yield f"{one.request_id}: {one.answer} where the oracle says {sent.request_id}: {sent.expected}"
    for letter in history.buried:
        sent = expected.get((letter.source_partition, letter.source_offset))
        if sent is not None and sent.expected.detail != letter.code:
            yield f"{sent.request_id} is buried for {letter.code} where the oracle says {sent.expected}"


def _recovers(history: History) -> Iterator[str]:
    for one in history.recoveries:
        if one.seconds > one.bound_s:
            yield f"{one.fault} at {one.at_s:.0f} s: no answer for {one.seconds:.1f} s"


_RULES: dict[str, Callable[[History], Iterator[str]]] = {
    "A acknowledged": _all_there,
    "A answered": _answered,
    "A answered once": _answered_once,
    "B order": _in_order,
    "B committed": _committed_to_the_end,
    "C sink": _sink,
    "D oracle": _as_expected,
    "E recovery": _recovers,
}
