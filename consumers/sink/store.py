"""The write path: results, detections and offsets into PostgreSQL, in one transaction."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import psycopg2

from consumers.sink.batch import Batch, Entry, Refused
from consumers.sink.errors import StaleOffsets, is_refusal
from consumers.sink.partitions import Partitions
from consumers.sink.rows import copy_detections, copy_results, sink_statements
from infra.postgres import Connection, Cursor, connect, transaction
from infra.settings import DatabaseSettings
from schemas.errors import ErrorCode

logger = logging.getLogger(__name__)

_SQL = sink_statements()


class Topic(msgspec.Struct, frozen=True):
    """A topic by name and id: one made anew under the same name begins at offset 0 again."""

    name: str
    topic_id: str


class Written(msgspec.Struct, frozen=True):
    """What became of a batch."""

    stored: int
    duplicates: int
    """Results that were there already."""
    refused: int


class Store:
    """PostgreSQL as the sink sees it. The connection is made when it is needed, and again after an outage."""

    def __init__(self, settings: DatabaseSettings, partitions: Partitions) -> None:
        self._settings = settings
        self._partitions = partitions
        self._connection: Connection | None = None

    def close(self) -> None:
        """Closes the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def check(self) -> None:
        """Asks the server for an answer, where the connection may be broken."""
        with transaction(self._connected()) as cursor:
            cursor.execute("SELECT 1")

    def maintain(self) -> bool:
        """Makes and drops day partitions; returns whether all is done for now."""
        return self._partitions.maintain(self._connected())

    def offsets(self, topic: Topic, partitions: Sequence[int]) -> dict[int, int]:
        """The offset of the first record that is not stored yet, by partition; 0 where none ever was."""
        names = {"topic_id": topic.topic_id, "topic": topic.name, "partitions": list(partitions)}
        with transaction(self._connected()) as cursor:
            cursor.execute(_SQL["register_offsets"], names)
            cursor.execute(_SQL["read_offsets"], names)
            return dict(cursor.fetchall())

    def write(
        self,
        topic: Topic,
        batch: Batch,
        expected: Mapping[int, int],
        bury: Callable[[Sequence[Refused]], None],
    ) -> Written:
        """Stores a batch, all or nothing.

        1. The day partitions it needs are made, each in a transaction of its own.
        2. The stored offsets are locked and compared with `expected`, then moved.
        3. Results and detections are inserted; those that PostgreSQL refuses are found and set aside.
        4. `bury` delivers what was refused to the dead-letter topic.
        5. Commit. A failure before it leaves everything as it was, but for dead letters, which may come
           twice; a connection cut within it shows as StaleOffsets at the next try.

        Args:
            expected: what PostgreSQL should hold for each partition of the batch.

        Raises:
            StaleOffsets: it holds something else, so another sink was faster: nothing is stored.
            psycopg2.Error, DatabaseUnavailable: see `errors.is_outage`.
        """
        connection = self._connected()
        self._partitions.ensure(connection, {entry.result.source.timestamp.date() for entry in batch.entries})
        with transaction(connection) as cursor:
            _move_offsets(cursor, topic, batch.next_offsets, expected)
            entries = _unique(batch.entries)
            stored, refused = _insert(cursor, entries)
            refused = sorted([*batch.refused, *refused], key=_place)
            if refused:
                bury(refused)
        duplicates = len(batch) - stored - len(refused)
        return Written(stored, duplicates, len(refused))

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = connect(self._settings, "analysis sink")
            with transaction(connection) as cursor:
                cursor.execute(_SQL["configure_session"])
                cursor.execute(_SQL["create_staging"])
            self._connection = connection
        return self._connection


def _move_offsets(
    cursor: Cursor, topic: Topic, next_offsets: Mapping[int, int], expected: Mapping[int, int]
) -> None:
    partitions = list(next_offsets)
    names = {"topic_id": topic.topic_id, "partitions": partitions}
    cursor.execute(_SQL["lock_offsets"], names)
    stored = dict(cursor.fetchall())
    if stored != {partition: expected[partition] for partition in partitions}:
        raise StaleOffsets(stored)
    cursor.execute(_SQL["move_offsets"], {**names, "next_offsets": list(next_offsets.values())})


def _unique(entries: Sequence[Entry]) -> list[Entry]:
    """One of each identity, as if they had come in batches of one: the first, or the first that is ok."""
    kept: dict[object, Entry] = {}
    for entry in entries:
        source, module = entry.result.source, entry.result.module
        identity = (source.topic_id, source.partition, source.offset, source.index, module, source.timestamp)
        former = kept.setdefault(identity, entry)
        if former.result.status == "failed" and entry.result.status == "ok":
            kept[identity] = entry
    return list(kept.values())


def _insert(cursor: Cursor, entries: Sequence[Entry]) -> tuple[int, list[Refused]]:
    """Inserts what PostgreSQL takes: halves what it refuses until the guilty results are alone."""
    if not entries:
        return 0, []
    try:
        with _savepoint(cursor):
            return _copy_and_merge(cursor, entries), []
    except (psycopg2.Error, UnicodeEncodeError) as error:
        if not is_refusal(error):
            raise
        if len(entries) == 1:
            return 0, [_refused(entries[0], error)]
    middle = len(entries) // 2
    left, left_refused = _insert(cursor, entries[:middle])
    right, right_refused = _insert(cursor, entries[middle:])
    return left + right, left_refused + right_refused


def _copy_and_merge(cursor: Cursor, entries: Sequence[Entry]) -> int:
    results = [entry.result for entry in entries]
    cursor.execute(_SQL["clear_staging"])
    cursor.copy_expert(_SQL["copy_results"], io.BytesIO(copy_results(results)))
    cursor.copy_expert(_SQL["copy_detections"], io.BytesIO(copy_detections(results)))
    cursor.execute(_SQL["merge"])
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


@contextlib.contextmanager
def _savepoint(cursor: Cursor) -> Iterator[None]:
    cursor.execute("SAVEPOINT part")
    try:
        yield
    except (psycopg2.Error, UnicodeEncodeError) as error:
        if is_refusal(error):
            cursor.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
        raise
    cursor.execute("RELEASE SAVEPOINT part")


def _refused(entry: Entry, error: Exception) -> Refused:
    reason = str(error).strip().partition("\n")[0]
    message = f"PostgreSQL refuses the result of request {entry.result.request_id!r}: {reason}"
    return Refused(entry.record, ErrorCode.ROW_REFUSED, message)


def _place(refused: Refused) -> tuple[int, int]:
    return refused.record.position.partition, refused.record.position.offset
