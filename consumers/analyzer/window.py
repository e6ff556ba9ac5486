"""The records in flight: from their intake until their answers are committed.

The main thread owns all of it, but for the tasks: each belongs to the stage that has it, until `answer` is
set.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumers.analyzer.budget import Lease
from consumers.analyzer.claims import Place, Standing
from schemas.errors import AnalysisError
from schemas.headers import Headers
from schemas.messages import RecordPosition, Request, Result, SourcePosition

if TYPE_CHECKING:
    from typing_extensions import Buffer

PartitionKey = tuple[str, int]


@dataclass(slots=True)
class Found:
    """What fetching and decoding revealed about an image; None where not reached."""

    key: str
    version_id: str | None = None
    etag: str | None = None
    size_bytes: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    format: str | None = None


@dataclass(slots=True)
class Spent:
    """Milliseconds that a task spent in each stage; None where not reached."""

    queued: float | None = None
    fetch: float | None = None
    decode: float | None = None
    infer: float | None = None


@dataclass(slots=True, eq=False)
class Task:
    """One image of one record, on its way through the stages."""

    request: Request
    fallback_key: str | None
    source: SourcePosition
    """Its identity: where the request first lay, if it was published again."""
    partition: "PartitionWindow"
    found: Found
    offset: int = 0
    """Of the record that it belongs to."""
    taken_at: float = field(default_factory=time.monotonic)
    spent: Spent = field(default_factory=Spent)
    raw: "Buffer | None" = None
    raw_lease: Lease | None = None
    prepared: Any = None
    prepared_lease: Lease | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    """Original pixels per pixel of the image that the module saw, across and down."""
    encoded: bytes = b""
    """The answer as it will be sent."""
    answer: Result | None = None
    """Set last: the main thread takes it for the end of the task."""
    given_up: bool = False
    """Whether nobody here will answer it any more; the next worker does the work."""
    submitted: bool = False
    """Whether it is in the pipeline, or was."""
    place: int | None = None
    """Where it stands in the flight record, while it is in native code's hands."""
    attempts: int = 1
    """How many workers have tried it, this one included."""
    refused_md5: str | None = None
    """Of bytes that could not be decoded and are not those that the store's ETag speaks of."""
    poison: AnalysisError | None = None
    """Why nobody tries it any more: workers died with it."""

    @property
    def position(self) -> Place:
        """Where it is in its partition: its record's offset, and its number within that."""
        return self.offset, self.source.index

    @property
    def under_way(self) -> bool:
        """Whether a stage works on it or will."""
        return self.submitted and self.answer is None and not self.given_up

    @property
    def abandoned(self) -> bool:
        """Whether the partition is no longer ours, so that nobody waits for the answer."""
        return self.partition.dropped

    @property
    def uri(self) -> str:
        """The image's address, for messages."""
        return f"s3://{self.request.image.bucket}/{self.found.key}"

    def free_raw(self) -> None:
        """Lets go of the file's bytes."""
        self.raw = None
        if self.raw_lease is not None:
            self.raw_lease.release()

    def free(self) -> None:
        """Lets go of all memory: the task is answered or abandoned."""
        self.free_raw()
        self.prepared = None
        if self.prepared_lease is not None:
            self.prepared_lease.release()


@dataclass(slots=True, eq=False)
class Record:
    """One record of the images topic: the tasks it asks for, or the reason it cannot be answered."""

    position: RecordPosition
    key: bytes | None
    value: bytes | None
    headers: Headers
    tasks: tuple[Task, ...] = ()
    rejection: AnalysisError | None = None
    counted: bool = False
    """Whether the brake has seen it."""

    @property
    def done(self) -> bool:
        """Whether every task has its answer; a record without tasks is done at once."""
        return all(task.answer is not None for task in self.tasks)

    @property
    def weight(self) -> int:
        """How many of the window's places it takes: its tasks, or one without any."""
        return max(1, len(self.tasks))

    @property
    def size_bytes(self) -> int:
        """What the record itself weighs in the window."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.value or b"") + len(self.key or b"") + headers


@dataclass(slots=True, eq=False)
class PartitionWindow:
    """The records in flight of one owned partition, in offset order."""

    topic: str
    partition: int
    records: deque[Record] = field(default_factory=deque)
    weight: int = 0
    size_bytes: int = 0
    dropped: bool = False
    standing: Standing | None = None
    """What its former owners have left; None until this one has claimed it."""
    next_offset: int = 0
    """The offset that was last committed, once it is claimed."""
    held: deque[Record] = field(default_factory=deque)
    """Records of these that may not be worked on yet."""

    @property
    def key(self) -> PartitionKey:
        """Topic and partition."""
        return self.topic, self.partition

    def append(self, record: Record) -> None:
        """Takes the next record in."""
        self.records.append(record)
        self.weight += record.weight
        self.size_bytes += record.size_bytes

    def finished(self) -> list[Record]:
        """The longest prefix of records that are done: what may be committed next; none before the claim."""
        prefix: list[Record] = []
        if not self.claimed:
            return prefix
        for record in self.records:
            if not record.done:
                break
            prefix.append(record)
        return prefix

    def forget_below(self, offset: int) -> None:
        """Drops the records that are committed, those before this offset."""
        self.next_offset = max(self.next_offset, offset)
        while self.records and self.records[0].position.offset < offset:
            record = self.records.popleft()
            self.weight -= record.weight
            self.size_bytes -= record.size_bytes

    @property
    def claimed(self) -> bool:
        """Whether this worker has said that it is the owner."""
        return self.standing is not None

    @property
    def in_hand(self) -> bool:
        """Whether an image of it is being decoded, prepared or inferred."""
        return any(task.place is not None for record in self.records for task in record.tasks)

    @property
    def stuck(self) -> bool:
        """Whether the next record to commit will not be done in this process."""
        return bool(self.records) and any(task.given_up for task in self.records[0].tasks)

    def clear(self) -> None:
        """Gives up what is in flight; its tasks see that they are abandoned."""
        self.dropped = True
        self.records.clear()
        self.held.clear()


class Window:
    """Every owned partition's records in flight."""

    def __init__(self) -> None:
        self._partitions: dict[PartitionKey, PartitionWindow] = {}

    def __iter__(self) -> Iterator[PartitionWindow]:
        return iter(self._partitions.values())

    def add(self, topic: str, partition: int) -> None:
        """Begins with a fresh state: the partition was assigned."""
        self.drop(topic, partition)
        self._partitions[topic, partition] = PartitionWindow(topic, partition)

    def drop(self, topic: str, partition: int) -> None:
        """Gives a partition up: work that is finished later must never be committed by us."""
        former = self._partitions.pop((topic, partition), None)
        if former is not None:
            former.clear()

    def get(self, topic: str, partition: int) -> PartitionWindow | None:
        """An owned partition's window; None when we do not own it."""
        return self._partitions.get((topic, partition))

    def restart(self, window: PartitionWindow) -> None:
        """Throws away what is in flight of an owned partition, which will be read again."""
        self.add(window.topic, window.partition)

    def finished(self) -> dict[PartitionKey, list[Record]]:
        """Each partition's finished prefix, where there is one."""
        prefixes = {key: window.finished() for key, window in self._partitions.items()}
        return {key: prefix for key, prefix in prefixes.items() if prefix}

    def forget(self, committed: Iterable[tuple[PartitionKey, Sequence[Record]]]) -> None:
        """Drops what a transaction has committed."""
        for key, records in committed:
            self._partitions[key].forget_below(records[-1].position.offset + 1)

    @property
    def weight(self) -> int:
        """Places taken: tasks in flight, and records without any."""
        return sum(window.weight for window in self)

    @property
    def size_bytes(self) -> int:
        """Bytes of the records in flight."""
        return sum(window.size_bytes for window in self)

    @property
    def under_way(self) -> bool:
        """Whether any stage works on anything."""
        return any(task.under_way for window in self for record in window.records for task in record.tasks)

    def drained(self) -> bool:
        """Whether nothing more will be committed: all is, or what is next was given up."""
        return all(not window.records or window.stuck for window in self)
