"""The write path into a real PostgreSQL."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg2
import pytest

from consumers.sink.batch import Batch, Record, Refused
from consumers.sink.errors import StaleOffsets
from consumers.sink.partitions import Partitions, partition_name
from consumers.sink.store import Store, Topic, Written
from schemas.codec import encode
from schemas.errors import ErrorCode
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    Label,
    ModuleIdentity,
    RecordPosition,
    Result,
    SourcePosition,
    Timings,
)
from tests.sink_support import Database, fresh_database, make_result, make_source
from tests.stack import RunningStack

TOPIC = Topic("results", "id-of-results")


@pytest.fixture(scope="module")
def database(stack: RunningStack) -> Iterator[Database]:
    with fresh_database(stack.database) as made:
        yield made


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    database.query("TRUNCATE results, detections, sink_offsets")
    made = Store(database.settings, Partitions(retention_days=7))
    yield made
    made.close()


def bury_nothing(refused: Sequence[Refused]) -> None:
    assert not refused


def batch_of(results: Sequence[Result], first: int = 0) -> Batch:
    batch = Batch()
    for offset, result in enumerate(results, start=first):
        position = RecordPosition(TOPIC.topic_id, TOPIC.name, 0, offset, datetime.now(UTC))
        batch.add(Record(position, None, encode(result), ()))
    return batch


def write(store: Store, results: Sequence[Result], first: int = 0, bury: Any = bury_nothing) -> Written:
    """Writes results as if they lay on partition 0 from offset `first`, where the sink stands."""
    store.offsets(TOPIC, [0])
    return store.write(TOPIC, batch_of(results, first), {0: first}, bury)


def full_result() -> Result:
    return Result(
        request_id="id with ' \" \\ and \t and æ☃𝄞",
        status="failed",
        module=ModuleIdentity("faces", "2.1"),
        image=AnalyzedImage(
            bucket="images",
            key="a/b\\c\n.jpg",
            version_id="v1",
            etag='"e"',
            width_px=640,
            height_px=480,
            size_bytes=5_000_000_000,
            format="JPEG",
        ),
        detections=(
            Detection(Box(0.1, -2.5, 1e300, 0), (Label("cat", 0.25), Label("dog", 0.5))),
            Detection(Box(1, 2, 3, 4), ()),
        ),
        error=Failure("module_error", r"\N is not null; \. is no end"),
        source=SourcePosition("id", "images", 3, 2**62, 5, datetime.now(UTC)),
        timings_ms=Timings(queued=1.5, fetch=2.5, decode=0, infer=1e-9, total=4),
        requested_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        analyzed_at=datetime.now(UTC),
        attributes={"camera": "north", "": '{"a": "\\\\"}'},
    )


RESULT_QUERY = """
    SELECT request_timestamp, source_topic_id, source_topic, source_partition, source_offset, source_index,
      module, module_version, message_version, request_id, status, error_code, error_message,
      image_bucket, image_key, image_version_id, image_etag, image_width_px, image_height_px,
      image_size_bytes, image_format, detection_count, queued_ms, fetch_ms, decode_ms, infer_ms, total_ms,
      requested_at, analyzed_at, attributes
    FROM results
"""


def as_row(result: Result) -> tuple[Any, ...]:
    source, image, timings, error = result.source, result.image, result.timings_ms, result.error
    return (
        *(source.timestamp, source.topic_id, source.topic, source.partition, source.offset, source.index),
        *(result.module.name, result.module.version, 1, result.request_id, result.status),
        *(error and error.code, error and error.message),
        *(image.bucket, image.key, image.version_id, image.etag, image.width_px, image.height_px),
        *(image.size_bytes, image.format, len(result.detections)),
        *(timings.queued, timings.fetch, timings.decode, timings.infer, timings.total),
        *(result.requested_at, result.analyzed_at, result.attributes),
    )


@pytest.mark.parametrize("result", [full_result(), make_result(detections=())], ids=["full", "bare"])
def test_every_column_holds_what_was_published(store: Store, database: Database, result: Result) -> None:
    assert write(store, [result]) == Written(stored=1, duplicates=0, refused=0)
    assert database.query(RESULT_QUERY) == [as_row(result)]
    [(stored_at,)] = database.query("SELECT stored_at FROM results")
    assert abs(stored_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_every_detection_is_a_row_that_names_its_result(store: Store, database: Database) -> None:
    result = full_result()
    write(store, [make_result(1), result])
    rows = database.query(
        "SELECT detection_number, label, score, box_x_px, box_y_px, box_w_px, box_h_px, labels "
        "FROM detections NATURAL JOIN (SELECT request_timestamp, source_topic_id, source_partition, "
        "source_offset, source_index, module, module_version, request_id FROM results) AS result "
        "WHERE request_id = %(id)s ORDER BY detection_number",
        {"id": result.request_id},
    )
    labels = [{"label": "cat", "score": 0.25}, {"label": "dog", "score": 0.5}]
    assert rows == [
        (0, "dog", 0.5, 0.1, -2.5, 1e300, 0.0, labels),
        (1, None, None, 1.0, 2.0, 3.0, 4.0, []),
    ]


def test_no_column_was_forgotten(database: Database) -> None:
    rows = database.query("SELECT column_name FROM information_schema.columns WHERE table_name = 'results'")
    selected = RESULT_QUERY.partition("FROM")[0].partition("SELECT")[2]
    assert {name for (name,) in rows} == {*map(str.strip, selected.split(",")), "stored_at"}


def test_what_is_there_already_stays_with_its_detections(store: Store, database: Database) -> None:
    first = make_result(7)
    other = msgspec.structs.replace(first, status="failed", detections=first.detections * 3)
    write(store, [first])
    assert write(store, [other, make_result(8)], first=1) == Written(stored=1, duplicates=1, refused=0)
    assert database.query("SELECT status FROM results WHERE source_offset = 7") == [("ok",)]
    assert database.query("SELECT count(*) FROM detections WHERE source_offset = 7") == [(1,)]


def test_a_double_within_a_batch_is_stored_once(store: Store, database: Database) -> None:
    first = make_result(7)
    other = msgspec.structs.replace(first, detections=first.detections * 3)
    assert write(store, [first, other]) == Written(stored=1, duplicates=1, refused=0)
    assert database.query("SELECT count(*) FROM detections") == [(1,)]


def test_another_version_of_the_module_is_another_answer(store: Store, database: Database) -> None:
    first = make_result(7)
    again = msgspec.structs.replace(first, module=ModuleIdentity("dummy", "2"))
    assert write(store, [first, again]).stored == 2
    assert database.query("SELECT count(*) FROM detections") == [(2,)]


def test_a_partition_never_read_begins_at_zero(store: Store, database: Database) -> None:
    assert store.offsets(TOPIC, [0, 3]) == {0: 0, 3: 0}
    write(store, [make_result(1), make_result(2)])
    assert store.offsets(TOPIC, [0, 3]) == {0: 2, 3: 0}
    assert store.offsets(Topic("results", "made anew"), [0]) == {0: 0}


def test_a_stale_sink_stores_nothing(store: Store, database: Database) -> None:
    zombie = Store(database.settings, Partitions(7))
    store.offsets(TOPIC, [0])
    write(store, [make_result(1), make_result(2)])
    with pytest.raises(StaleOffsets) as caught:
        zombie.write(TOPIC, batch_of([make_result(1), make_result(99)]), {0: 0}, bury_nothing)
    zombie.close()
    assert caught.value.stored == {0: 2}
    assert database.stored() == [1, 2]
    assert database.offsets() == {0: 2}


def test_one_stale_partition_stops_the_whole_batch(store: Store, database: Database) -> None:
    store.offsets(TOPIC, [0, 1])
    batch = batch_of([make_result(1)])
    position = RecordPosition(TOPIC.topic_id, TOPIC.name, 1, 4, datetime.now(UTC))
    batch.add(Record(position, None, encode(make_result(2)), ()))
    with pytest.raises(StaleOffsets):
        store.write(TOPIC, batch, {0: 0, 1: 4}, bury_nothing)
    assert (database.stored(), database.offsets()) == ([], {0: 0, 1: 0})


REFUSED = {
    "NUL in text": make_result(1, request_id="a\0b"),
    "NUL in a label": make_result(1, detections=(Detection(Box(1, 2, 3, 4), (Label("a\0", 1),)),)),
    "NUL in an attribute": make_result(1, attributes={"a": "\0"}),
    "integer out of range": make_result(1, image=AnalyzedImage(bucket="b", key="k", width_px=2**31)),
    "too long for an index": make_result(1, request_id="".join(map(chr, range(256, 9000)))),
}


@pytest.mark.parametrize("guilty", REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_row_is_buried_and_its_neighbours_stored(
    store: Store, database: Database, guilty: Result
) -> None:
    buried: list[Refused] = []
    results = [*map(make_result, range(10, 15)), guilty, *map(make_result, range(15, 30))]
    assert write(store, results, bury=buried.extend) == Written(stored=20, duplicates=0, refused=1)
    assert database.stored() == list(range(10, 30))
    assert database.query("SELECT count(*) FROM detections") == [(20,)]
    assert database.offsets() == {0: 21}
    [refused] = buried
    assert refused.code == ErrorCode.ROW_REFUSED
    assert refused.record.position.offset == 5
    assert "\n" not in refused.message


def test_many_refused_rows_are_all_found(store: Store, database: Database) -> None:
    buried: list[Refused] = []
    bad = {0, 1, 2, 17, 40, 99}
    results = [make_result(n, attributes={"n": "\0" if n in bad else ""}) for n in range(100)]
    assert write(store, results, bury=buried.extend).stored == 94
    assert {refused.record.position.offset for refused in buried} == bad
    assert database.stored() == [n for n in range(100) if n not in bad]


def test_a_failing_burial_stores_nothing(store: Store, database: Database) -> None:
    def bury(refused: Sequence[Refused]) -> None:
        raise ConnectionError("the broker is away")

    with pytest.raises(ConnectionError):
        write(store, [make_result(1), REFUSED["NUL in text"]], bury=bury)
    assert (database.stored(), database.offsets()) == ([], {0: 0})


def test_a_broken_connection_is_made_again(store: Store, database: Database) -> None:
    write(store, [make_result(1)])
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'analysis sink'"
    )
    with pytest.raises(psycopg2.OperationalError):
        write(store, [make_result(2)], first=1)
    store.close()
    write(store, [make_result(2)], first=1)
    assert database.stored() == [1, 2]


ODD_TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime.now(UTC) - timedelta(days=30),
    datetime.now(UTC) + timedelta(days=30),
    datetime(2262, 4, 11, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]


def test_odd_timestamps_are_stored_without_partitions_of_their_own(store: Store, database: Database) -> None:
    results = [make_result(n, source=make_source(n, time)) for n, time in enumerate(ODD_TIMES)]
    assert write(store, results).stored == len(ODD_TIMES)
    assert database.query("SELECT count(*) FROM results_default") == [(len(ODD_TIMES),)]
    assert database.query("SELECT count(*) FROM detections_default") == [(len(ODD_TIMES),)]
    assert write(store, results, first=len(ODD_TIMES)).duplicates == len(ODD_TIMES)
    times = database.query("SELECT request_timestamp FROM results ORDER BY source_offset")
    assert [time for (time,) in times] == ODD_TIMES


def test_the_partition_of_a_late_result_is_made_on_demand(store: Store, database: Database) -> None:
    time = datetime.now(UTC) - timedelta(days=3)
    write(store, [make_result(1, source=make_source(1, time))])
    name = partition_name("results", time.date())
    assert database.query("SELECT tableoid::regclass::text FROM results") == [(name,)]


def answered(status: str, request_id: str = "r") -> Result:
    """An answer to the same request, whenever it comes."""
    source = msgspec.structs.replace(make_source(7), timestamp=REPLAYED_AT)
    error = None if status == "ok" else Failure("module_crashed", "no")
    found = make_result(7).detections if status == "ok" else ()
    return make_result(7, status=status, request_id=request_id, source=source, error=error, detections=found)


REPLAYED_AT = datetime.now(UTC)
STATES = "SELECT status, error_code, detection_count, (SELECT count(*) FROM detections) FROM results"


@pytest.mark.parametrize("together", [True, False])
def test_a_failed_row_gives_way_to_an_ok_one(database: Database, store: Store, *, together: bool) -> None:
    answers = [answered("failed"), answered("ok"), answered("failed")]
    if together:
        write(store, answers)
    else:
        for number, answer in enumerate(answers):
            write(store, [answer], number)
    assert database.query(STATES) == [("ok", None, 1, 1)]


def test_a_failed_row_does_not_give_way_to_another_requests_answer(database: Database, store: Store) -> None:
    write(store, [answered("failed")])
    write(store, [answered("ok", "somebody-else")], 1)
    assert database.query(STATES) == [("failed", "module_crashed", 0, 0)]
