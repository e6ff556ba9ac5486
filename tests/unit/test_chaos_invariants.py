"""The checker of the chaos runs turns red for each way in which a service may break its promises."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.chaos.history import Answered, Buried, Expectation, History, Look, Recovery, Row, Sent
from tests.chaos.invariants import check

PARTITIONS, EACH = 2, 30
OK = Expectation("ok", "red")
DEAD = Expectation("dead", "message_not_json")
POISON = Expectation("failed", "module_crashed")
START = datetime(2026, 1, 1, tzinfo=UTC)


def sound() -> History:
    """A run in which nothing went wrong; every tenth record is no request, and one is poison."""
    history = History(sent=[], answered=[], buried=[], rows=[])
    for partition in range(PARTITIONS):
        for offset in range(EACH):
            name = f"r{partition}-{offset}"
            expected = DEAD if offset % 10 == 9 else POISON if offset == 4 else OK
            history.sent.append(Sent(name, partition, offset, expected))
            history.acknowledged.append((partition, offset))
            if expected is not OK:
                history.buried.append(Buried(partition, offset, expected.detail))
            if expected is not DEAD:
                history.answered.append(Answered(partition, offset + 100, name, partition, offset, expected))
                history.rows.append(Row(name, partition, offset, expected))
        history.committed[partition] = EACH
        history.result_ends[partition] = EACH + 99
    for number in range(3):
        at = START + timedelta(seconds=number)
        history.looks.append(Look(at, dict.fromkeys(range(PARTITIONS), 43 * (number + 1))))
    history.recoveries.append(Recovery("kill_worker", 10, 2.5, 5.0, 60.0))
    return history


def lose_a_request(history: History) -> None:
    """The broker acknowledged it and lost it."""
    gone = history.sent.pop(5)
    place = gone.partition, gone.offset
    history.answered = [one for one in history.answered if (one.source_partition, one.source_offset) != place]
    history.rows = [one for one in history.rows if (one.source_partition, one.source_offset) != place]


def drop_a_result(history: History) -> None:
    del history.answered[7], history.rows[7]


def answer_twice_after_a_takeover(history: History) -> None:
    """No rewind after an abort, or work of a revoked partition that is committed all the same."""
    last = max(one.offset for one in history.answered)
    history.answered += [
        replace(one, offset=last + number + 1) for number, one in enumerate(history.answered[3:6])
    ]


def reorder(history: History) -> None:
    first, second = history.answered[10], history.answered[11]
    history.answered[10] = replace(first, offset=second.offset)
    history.answered[11] = replace(second, offset=first.offset)


def commit_a_stale_offset(history: History) -> None:
    history.committed[1] = EACH - 5


def skip_after_an_abort(history: History) -> None:
    """The position moves on although the transaction was aborted: what it held is never answered."""
    gone = {(0, offset) for offset in range(10, 15)}
    history.answered = [
        one for one in history.answered if (one.source_partition, one.source_offset) not in gone
    ]
    history.rows = [one for one in history.rows if (one.source_partition, one.source_offset) not in gone]


def store_without_compare_and_set(history: History) -> None:
    """A frozen sink wakes up and writes its old offset over the newer one."""
    history.looks.insert(2, replace(history.looks[0], at=history.looks[1].at))


def store_a_row_twice(history: History) -> None:
    history.rows.append(history.rows[3])


def store_what_was_aborted(history: History) -> None:
    """Reading uncommitted: a row for a result that no reader of committed records sees."""
    history.rows.append(Row("r0-99", 0, 99, OK))


def store_what_was_aborted_and_done_again(history: History) -> None:
    """As above, but the request was answered alike the second time."""
    history.rows[2] = replace(history.rows[2], analyzed_at=START)


def lose_a_row(history: History) -> None:
    del history.rows[5]


def stop_storing(history: History) -> None:
    for look in history.looks:
        look.next_offsets[1] = min(look.next_offsets[1], 100)


def answer_for_another(history: History) -> None:
    history.answered[2] = replace(history.answered[2], request_id=history.answered[3].request_id)
    history.rows[2] = replace(history.rows[2], request_id=history.answered[3].request_id)


def blame_an_innocent(history: History) -> None:
    history.answered[2] = replace(history.answered[2], answer=POISON)
    history.rows[2] = replace(history.rows[2], answer=POISON)


def bury_what_was_an_outage(history: History) -> None:
    history.buried.append(Buried(0, 3, "s3_unavailable"))


def lose_a_dead_letter(history: History) -> None:
    del history.buried[0]


def answer_what_was_never_asked(history: History) -> None:
    history.answered.append(Answered(0, 500, "r", 0, 400, OK))


def never_come_back(history: History) -> None:
    history.recoveries.append(Recovery("kill_broker", 20, float("inf"), 10, 60))


BUGS: dict[Callable[[History], None], str] = {
    lose_a_request: "A",
    drop_a_result: "A",
    answer_twice_after_a_takeover: "A",
    reorder: "B",
    commit_a_stale_offset: "B",
    skip_after_an_abort: "A",
    store_without_compare_and_set: "C",
    store_a_row_twice: "C",
    store_what_was_aborted: "C",
    store_what_was_aborted_and_done_again: "C",
    lose_a_row: "C",
    stop_storing: "C",
    answer_for_another: "D",
    blame_an_innocent: "D",
    bury_what_was_an_outage: "A",
    lose_a_dead_letter: "A",
    answer_what_was_never_asked: "A",
    never_come_back: "E",
}


def test_a_sound_run_breaks_nothing() -> None:
    assert check(sound()) == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_each_bug_is_seen(bug: Callable[[History], None]) -> None:
    history = sound()
    bug(history)
    assert BUGS[bug] in {violation.invariant[0] for violation in check(history)}
