"""The service with one bug in it: `SEEDED_BUG=… python -m tests.chaos.bugs …` for `analysis …`.

Each takes one of the precautions away that its promises rest on. A checker that stays green with one of them
in place does not look.
"""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

import analysis
from consumers.analyzer import publishing
from consumers.analyzer.polling import Poller
from consumers.analyzer.publishing import Publisher
from consumers.sink import start, store

BUG = "SEEDED_BUG"
EVERY = 100
"""Results between two that are spoiled."""


def drop() -> None:
    """One result in a hundred is not published."""
    numbers, produce = itertools.count(1), Publisher._produce

    def produced(self: Publisher, producer: Any, record: Any, counts: Any) -> None:
        if next(numbers) % EVERY:
            produce(self, producer, record, counts)

    _replace(Publisher, "_produce", produced)


def duplicate() -> None:
    """One result in a hundred is published twice."""
    numbers, produce = itertools.count(1), Publisher._produce

    def produced(self: Publisher, producer: Any, record: Any, counts: Any) -> None:
        for _ in range(1 if next(numbers) % EVERY else 2):
            produce(self, producer, record, counts)

    _replace(Publisher, "_produce", produced)


def reorder() -> None:
    """A transaction's results are published in the order in which they came last."""
    publish = Publisher.publish

    def published(
        self: Publisher, finished: Mapping[Any, Sequence[Any]], offsets: Any, metadata: Any
    ) -> bool:
        turned = {key: records[::-1] for key, records in finished.items()}
        return publish(self, turned, offsets, metadata)

    _replace(Publisher, "publish", published)


def stale_offset() -> None:
    """The offset of the first finished record is committed, not that of the last."""
    offsets = Poller._offsets

    def early(self: Poller, finished: Mapping[Any, Sequence[Any]], *others: Any, **named: Any) -> Any:
        return offsets(self, {key: records[:1] for key, records in finished.items()}, *others, **named)

    _replace(Poller, "_offsets", early)


def no_rewind_after_abort() -> None:
    """A transaction that failed is taken for one that is committed."""
    publish = Publisher.publish

    def published(self: Publisher, *arguments: Any) -> bool:
        publish(self, *arguments)
        return True

    _replace(Publisher, "publish", published)


def doubtful_commits() -> None:
    """No bug: one commit in ten tells of a time-out, in turn after it was done and before it is begun."""
    numbers = itertools.count(1)

    class Doubtful(Producer):
        def commit_transaction(self, *arguments: Any) -> None:
            number = next(numbers)
            if number % 20 != 10:
                super().commit_transaction(*arguments)
            if number % 10 == 0:
                self.flush(5)
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    _replace(publishing, "make_producer", Doubtful)


def no_question_after_doubt() -> None:
    """A transaction whose outcome is unknown is taken for one that failed."""
    doubtful_commits()

    def reconcile(self: Poller, attempted: Any) -> None:
        self._in_doubt = None

    _replace(Poller, "_reconcile", reconcile)


def ignored_revocation() -> None:
    """Work of a partition that was given up is finished and committed all the same."""

    def give_up(self: Poller, consumer: Any, partitions: Any, how: str) -> None:
        consumer.incremental_unassign(list(partitions))

    _replace(Poller, "_give_up", give_up)
    _replace(Poller, "_on_revoke", lambda self, *arguments: self._give_up(*arguments, "revoked"))


def no_compare_and_set() -> None:
    """The sink moves its offsets without a look at what is stored."""

    def moved(cursor: Any, topic: store.Topic, next_offsets: Mapping[int, int], _: Any) -> None:
        names = {"topic_id": topic.topic_id, "partitions": list(next_offsets)}
        cursor.execute(store._SQL["move_offsets"], {**names, "next_offsets": list(next_offsets.values())})

    _replace(store, "_move_offsets", moved)


def reading_uncommitted() -> None:
    """The sink stores results of transactions that are aborted later."""
    doubtful_commits()
    make = start.sink_consumer_config

    def config(*arguments: Any) -> dict[str, Any]:
        return {**make(*arguments), "isolation.level": "read_uncommitted"}

    _replace(start, "sink_consumer_config", config)


class Seeded(msgspec.Struct, frozen=True):
    """A bug, the faults under which it shows, and the invariants that tell of it: one at least."""

    plant: Callable[[], None]
    faults: str
    tell: frozenset[str]


LOST, DOUBLED = "A answered", "A answered once"
UNFINISHED = "B committed"
"""What is not answered since it was not reached is not lost."""
_WORKERS = "kill_worker,freeze_worker,duplicate_transactional_id,cut_at_end_of_transaction"

BUGS: Mapping[str, Seeded] = {
    bug.plant.__name__: bug
    for bug in (
        Seeded(drop, "kill_worker", frozenset({LOST})),
        Seeded(duplicate, "kill_worker", frozenset({DOUBLED})),
        Seeded(reorder, "kill_worker", frozenset({"B order"})),
        Seeded(stale_offset, _WORKERS, frozenset({DOUBLED})),
        Seeded(no_rewind_after_abort, _WORKERS, frozenset({LOST})),
        Seeded(doubtful_commits, "kill_worker", frozenset()),
        Seeded(no_question_after_doubt, "kill_worker", frozenset({DOUBLED})),
        Seeded(ignored_revocation, "rebalance_storm,store_is_silent", frozenset({DOUBLED})),
        Seeded(no_compare_and_set, "freeze_sink,database_is_slow", frozenset({"C sink"})),
        Seeded(reading_uncommitted, "kill_worker", frozenset({"C sink"})),
    )
}


def _replace(owner: Any, name: str, by: Any) -> None:
    # A name that the service has no longer must not pass for a bug that was planted.
    assert hasattr(owner, name), f"{owner.__name__} has no {name}"
    setattr(owner, name, by)


# Here, and not below: the analyzer's workers import this module anew, under another name.
if planted := os.environ.get(BUG):
    BUGS[planted].plant()

if __name__ == "__main__":
    analysis.main()
