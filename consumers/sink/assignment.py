"""The partitions that this sink owns, and where it stands in each."""

import functools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import psycopg2
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from consumers.sink.store import Topic
from schemas.errors import AnalysisError

logger = logging.getLogger(__name__)

WATERMARKS_S = 5.0
IDLE_READY_S = 10.0
"""How long an answer is waited for: in the `consumer` protocol a member that gets nothing hears nothing."""

Partitions = Sequence[TopicPartition]
Callback = Callable[["Assignment", Consumer, Partitions], None]


class Position:
    """Where the sink stands in one partition."""

    def __init__(self, stored: int) -> None:
        self.stored = stored
        """What PostgreSQL holds, as far as this sink knows: what its next write compares with."""
        self.next = stored
        """The lowest offset not read yet."""


def _never_raises(callback: Callback) -> Callback:
    """An exception that left a rebalance callback would make consume() drop records of other partitions."""

    @functools.wraps(callback)
    def guarded(self: "Assignment", consumer: Consumer, partitions: Partitions) -> None:
        try:
            callback(self, consumer, partitions)
        except Exception as error:
            logger.exception("rebalance callback failed for %s", _numbers(partitions))
            self.failure = error

    return guarded


class Assignment:
    """Follows the group's rebalances. Offsets come from PostgreSQL, never from the group.

    A partition whose place is not known, because PostgreSQL did not answer when it was assigned or because
    another sink has moved it, is `unsettled`: paused, and its records are not taken, until `settle` works.
    All calls, the callbacks included, happen in the one thread that owns the consumer.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: Topic,
        topic_id: Callable[[], str],
        stored_offsets: Callable[[Topic, Sequence[int]], Mapping[int, int]],
        on_drop: Callable[[Collection[int]], None],
    ) -> None:
        """Assigns; `subscribe` joins the group.

        Args:
            topic_id: asks the broker for the topic's present id.
            stored_offsets: asks PostgreSQL for the next offset of each partition.
            on_drop: called with partitions whose unstored records must be forgotten.
        """
        self.topic = topic
        self.failure: Exception | None = None
        """What went wrong in a callback and could not be raised there."""
        self.expired = 0
        """Records, since the start, that the topic's retention removed before they were stored."""
        self._consumer = consumer
        self._topic_id = topic_id
        self._stored_offsets = stored_offsets
        self._on_drop = on_drop
        self._positions: dict[int, Position] = {}
        self._unsettled: set[int] = set()
        self._out_of_range: set[int] = set()
        self._held = False
        self._assigned = False
        self._subscribed_at_s = float("inf")

    @property
    def ready(self) -> bool:
        """Whether the group has answered, or seems to have no partition for this sink."""
        return self._assigned or time.monotonic() - self._subscribed_at_s > IDLE_READY_S

    def subscribe(self) -> None:
        """Joins the group."""
        self._consumer.subscribe(
            [self.topic.name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )
        self._subscribed_at_s = time.monotonic()

    def take(self, partition: int | None, offset: int | None) -> bool:
        """Whether a record is the partition's next; then it counts as read."""
        if partition is None or offset is None or partition in self._out_of_range:
            return False
        position = self._positions.get(partition)
        if position is None or offset < position.next:
            return False
        position.next = offset + 1
        return True

    def expected(self, partitions: Iterable[int]) -> dict[int, int]:
        """What PostgreSQL should hold for these partitions."""
        return {partition: self._positions[partition].stored for partition in partitions}

    def stored(self, next_offsets: Mapping[int, int]) -> None:
        """Notes what was stored, and tells the group's offsets, which are there for lag tools only."""
        for partition, offset in next_offsets.items():
            self._positions[partition].stored = offset
        offsets = [TopicPartition(self.topic.name, number, offset) for number, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            logger.debug("the group's offsets were not committed: %s", error)

    def hold(self) -> None:
        """Stops reading; polling goes on, so that the group keeps this member."""
        if not self._held:
            self._held = True
            self._consumer.pause(self._owned())

    def release(self) -> None:
        """Reads again."""
        self._held = False
        self._consumer.resume(self._owned(self._positions))

    def report(self, partition: int | None, error: KafkaError) -> None:
        """Takes an error that consume() returned in a record's place.

        Raises:
            KafkaException: the consumer cannot go on.
        """
        # consume() delivers a fatal error under this code, with fatal() unset.
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise KafkaException(error)
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition in self._positions:
            self._out_of_range.add(partition)
        else:
            logger.warning("Kafka: partition %s: %s", partition, error.str())

    def distrust(self, partitions: Collection[int]) -> None:
        """Another sink has moved these partitions: what was read of them is dropped."""
        for partition in partitions:
            self._positions.pop(partition, None)
        self._unsettled |= set(partitions)
        self._out_of_range -= set(partitions)
        self._on_drop(partitions)
        self._consumer.pause(self._owned(partitions))

    def settle(self) -> None:
        """Finds the place of every partition that lacks one.

        Raises:
            psycopg2.Error, AnalysisError, KafkaException: PostgreSQL or Kafka did not answer.
        """
        if self._unsettled or self._out_of_range:
            self._follow_topic()
        if self._unsettled:
            numbers = sorted(self._unsettled)
            self._learn(self._stored_offsets(self.topic, numbers))
            self._place(numbers)
        for partition in sorted(self._out_of_range):
            self._recover(partition)
            self._out_of_range.discard(partition)
            self._place([partition])

    @_never_raises
    def _on_assign(self, consumer: Consumer, partitions: Partitions) -> None:
        numbers = _numbers(partitions)
        self._unsettled |= set(numbers)
        try:
            if numbers:
                self._follow_topic()
                self._learn(self._stored_offsets(self.topic, numbers))
        except (AnalysisError, KafkaException, psycopg2.Error) as error:
            logger.warning("partitions %s wait for their offsets: %s", numbers, error)
        consumer.incremental_assign([self._start(number) for number in numbers])
        self._pause_or_resume(numbers)
        self._assigned = True
        logger.info("assigned: %s", {number: self._next(number) for number in numbers})

    @_never_raises
    def _on_revoke(self, consumer: Consumer, partitions: Partitions) -> None:
        numbers = _numbers(partitions)
        try:
            for number in numbers:
                self._positions.pop(number, None)
            self._unsettled -= set(numbers)
            self._out_of_range -= set(numbers)
            self._on_drop(numbers)
        finally:
            consumer.incremental_unassign(list(partitions))
        logger.info("revoked: %s", numbers)

    def _follow_topic(self) -> None:
        """Notices a topic that was deleted and made anew: its offsets begin at 0, whatever was stored."""
        topic_id = self._topic_id()
        if topic_id != self.topic.topic_id:
            logger.error(
                "topic %s was made anew (id %s); starting at its beginning", self.topic.name, topic_id
            )
            self.topic = Topic(self.topic.name, topic_id)
            self.distrust(list(self._positions))

    def _learn(self, stored: Mapping[int, int]) -> None:
        for partition, offset in stored.items():
            self._positions[partition] = Position(offset)
            self._unsettled.discard(partition)

    def _recover(self, partition: int) -> None:
        """Finds the next record where the place it should have is not in the log any more."""
        position = self._positions[partition]
        place = TopicPartition(self.topic.name, partition)
        watermarks = self._consumer.get_watermark_offsets(place, timeout=WATERMARKS_S)
        if watermarks is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        low, high = watermarks
        if position.next < low:
            logger.error(
                "partition %d: %d results, from offset %d, expired before they were stored; they are lost to "
                "the database. Keep the topic longer than the longest outage",
                partition,
                low - position.next,
                position.next,
            )
            self.expired += low - position.next
            position.next = low
        elif position.next > high:
            # The log lost its end (an unclean election, a restored disk). What came since may lie
            # anywhere below; reading it all again is harmless, since rows have an identity.
            logger.error(
                "partition %d: the log ends at %d but was read up to %d; reading it again from %d",
                partition,
                high,
                position.next,
                low,
            )
            position.next = low

    def _place(self, numbers: Sequence[int]) -> None:
        """Moves assigned partitions; seek() is refused where a partition has just been assigned."""
        self._consumer.incremental_unassign(self._owned(numbers))
        self._consumer.incremental_assign([self._start(number) for number in numbers])
        self._pause_or_resume(numbers)

    def _pause_or_resume(self, numbers: Sequence[int]) -> None:
        # Always said: the pause flag of an earlier assignment survives a rebalance.
        paused = [number for number in numbers if self._held or number in self._unsettled]
        self._consumer.pause(self._owned(paused))
        self._consumer.resume(self._owned(set(numbers) - set(paused)))

    def _start(self, number: int) -> TopicPartition:
        # A partition that was never read begins wherever its log does: nothing is lost by that.
        return TopicPartition(self.topic.name, number, self._next(number) or OFFSET_BEGINNING)

    def _next(self, number: int) -> int | None:
        position = self._positions.get(number)
        return position.next if position else None

    def _owned(self, numbers: Iterable[int] | None = None) -> list[TopicPartition]:
        chosen = {*self._positions, *self._unsettled} if numbers is None else numbers
        return [TopicPartition(self.topic.name, number) for number in chosen]


def _numbers(partitions: Iterable[Any]) -> list[int]:
    return [partition.partition for partition in partitions]
