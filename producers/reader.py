"""Reading whole topics without a consumer group: every partition, from chosen offsets."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import count
from typing import Literal, TypeAlias

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.kafka import (
    KafkaUnavailable,
    TopicNotFound,
    consumer_config,
    is_transient,
    make_consumer,
    patiently,
)
from infra.settings import KafkaSettings

Start: TypeAlias = Literal["beginning", "end"] | int | datetime
"""Where to begin: an end of the topic, an offset, minus the last n records of each partition, or a time."""

Offsets: TypeAlias = Mapping[tuple[str, int], int]
"""The next offset to read, by topic and partition."""

_ANSWER_S = 10.0


class TopicReader:
    """Reads committed records of some topics, for one thread at a time; it joins no group, commits nothing.

    Partitions that are added while it reads are not seen. `start` holds the offsets where it began.
    """

    def __init__(self, settings: KafkaSettings, topics: Iterable[str], *, committed: bool = True) -> None:
        """`committed=False` also reads what is not committed, or never will be."""
        self._settings = settings
        self._isolation = {} if committed else {"isolation.level": "read_uncommitted"}
        self._topics = list(topics)
        self.start: Offsets = {}
        self._unread: set[tuple[str, int]] = set()
        self._consumer: Consumer | None = None

    def open(self, start: Start | Offsets) -> None:
        """Fixes where to begin: what is published after this call returns is not missed.

        Raises:
            KafkaUnavailable: no broker answers.
            TopicNotFound: a topic does not exist.
        """
        config = consumer_config(self._settings, "analysis-reader")
        self._consumer = make_consumer(
            {**config, **self._isolation, "enable.partition.eof": True, "queued.max.messages.kbytes": 16_384}
        )
        try:
            self.start = start if isinstance(start, Mapping) else self._resolve(start)
        except BaseException:
            self.close()
            raise
        self._unread = set(self.start)
        self._consumer.assign([TopicPartition(*where, offset) for where, offset in self.start.items()])

    def poll(self, timeout_s: float) -> Message | None:
        """The next record, or None where none came in time; outages are waited out.

        Raises:
            KafkaException: reading cannot go on, e.g. the topic was deleted or rights were taken away.
        """
        message = self._open_consumer.poll(timeout_s)
        if message is None:
            return None
        error = message.error()
        if error is None:
            return message
        if error.code() == KafkaError._PARTITION_EOF:
            self._unread.discard((str(message.topic()), int(message.partition() or 0)))
        elif not is_transient(error):
            raise KafkaException(error)
        return None

    @property
    def caught_up(self) -> bool:
        """Whether the end of every partition was seen once."""
        return not self._unread

    def has_reached(self, ends: Offsets) -> bool:
        """Whether reading stands at these offsets or beyond; control records count too."""
        wanted = [TopicPartition(*where) for where in ends]
        positions = {(p.topic, p.partition): p.offset for p in self._open_consumer.position(wanted)}
        return all(max(positions[where], self.start[where]) >= end for where, end in ends.items())

    def close(self) -> None:
        """Closes the connections."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    @property
    def _open_consumer(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("the reader is not open")
        return self._consumer

    def _resolve(self, start: Start) -> dict[tuple[str, int], int]:
        try:
            partitions = [
                TopicPartition(*where) for topic in self._topics for where in self._partitions(topic)
            ]
            if isinstance(start, datetime):
                return self._offsets_at(partitions, start)
            return {(p.topic, p.partition): self._offset(p, start) for p in partitions}
        except KafkaException:
            raise KafkaUnavailable(self._settings) from None

    def _partitions(self, topic: str) -> list[tuple[str, int]]:
        consumer = self._open_consumer
        topics = patiently(self._settings, lambda: consumer.list_topics(topic, timeout=_ANSWER_S), _ANSWER_S)
        metadata = topics.topics[topic]
        if metadata.error is not None:
            raise TopicNotFound(topic)
        return [(topic, partition) for partition in metadata.partitions]

    def _offset(self, partition: TopicPartition, start: Start) -> int:
        consumer, attempts = self._open_consumer, count()

        def ask() -> tuple[int, int]:
            if next(attempts):
                # Where its leader has died, who took its place.
                consumer.list_topics(partition.topic, timeout=_ANSWER_S)
            return consumer.get_watermark_offsets(partition, timeout=_ANSWER_S)

        low, high = patiently(self._settings, ask, _ANSWER_S)
        if start == "beginning":
            return low
        if not isinstance(start, int):
            return high
        return min(max(high + start if start < 0 else start, low), high)

    def _offsets_at(self, partitions: list[TopicPartition], time: datetime) -> dict[tuple[str, int], int]:
        asked = [TopicPartition(p.topic, p.partition, int(time.timestamp() * 1000)) for p in partitions]
        consumer = self._open_consumer
        found = patiently(
            self._settings, lambda: consumer.offsets_for_times(asked, timeout=_ANSWER_S), _ANSWER_S
        )
        return {
            (p.topic, p.partition): self._offset(p, "end") if p.offset == OFFSET_END else p.offset
            for p in found
        }
