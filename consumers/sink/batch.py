"""Records of the results topic that are read and not stored yet."""

import time
from collections.abc import Collection

import msgspec
from confluent_kafka import Message

from infra.kafka import headers_of, record_time
from schemas.codec import decode_result
from schemas.errors import AnalysisError, ErrorCode
from schemas.headers import Headers
from schemas.messages import RecordPosition, Result


class Record(msgspec.Struct, frozen=True):
    """A Kafka record as it came."""

    position: RecordPosition
    key: bytes | None
    value: bytes | None
    headers: Headers

    @classmethod
    def from_message(cls, message: Message, topic_id: str) -> "Record":
        """Takes a consumed message, which must not be an error."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        position = RecordPosition(topic_id, topic, partition, offset, record_time(message))
        return cls(position, message.key(), message.value(), headers_of(message))


class Entry(msgspec.Struct, frozen=True):
    """A record and the result that it holds."""

    record: Record
    result: Result


class Refused(msgspec.Struct, frozen=True):
    """A record that cannot become rows, and why."""

    record: Record
    code: ErrorCode
    message: str


class Batch:
    """What the next transaction stores: in the order of each partition, without gaps."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.refused: list[Refused] = []
        self.next_offsets: dict[int, int] = {}
        """The offset after the last record taken, by partition."""
        self.size_bytes = 0
        self._since_s = 0.0

    def __bool__(self) -> bool:
        return bool(self.next_offsets)

    def __len__(self) -> int:
        return len(self.entries) + len(self.refused)

    @property
    def age_s(self) -> float:
        """Seconds since the first record was taken."""
        return time.monotonic() - self._since_s if self else 0.0

    def add(self, record: Record) -> None:
        """Takes the next record of its partition; one without a value (a tombstone) only moves the offset."""
        if not self:
            self._since_s = time.monotonic()
        self.next_offsets[record.position.partition] = record.position.offset + 1
        if record.value is None:
            return
        self.size_bytes += len(record.value)
        try:
            self.entries.append(Entry(record, decode_result(record.value)))
        except AnalysisError as error:
            self.refused.append(Refused(record, error.code, error.message))

    def clear(self) -> None:
        """Forgets everything: it is stored, or is read again."""
        self.drop(list(self.next_offsets))

    def drop(self, partitions: Collection[int]) -> None:
        """Forgets these partitions: they belong to another sink now, or are read again."""
        self.entries = [entry for entry in self.entries if _partition(entry) not in partitions]
        self.refused = [refused for refused in self.refused if _partition(refused) not in partitions]
        for partition in self.next_offsets.keys() & set(partitions):
            del self.next_offsets[partition]
        records = [entry.record for entry in self.entries] + [refused.record for refused in self.refused]
        self.size_bytes = sum(len(record.value or b"") for record in records)


def _partition(item: Entry | Refused) -> int:
    return item.record.position.partition
