"""Day partitions on a real PostgreSQL."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest

from consumers.sink.partitions import AHEAD_DAYS, Partitions
from infra.postgres import Connection, connect
from tests.sink_support import Database, fresh_database
from tests.stack import RunningStack

RETENTION_DAYS = 7
KEY = "source_topic_id, source_partition, source_offset, source_index, module, module_version"


@pytest.fixture
def database(stack: RunningStack) -> Iterator[Database]:
    with fresh_database(stack.database) as made:
        yield made


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with contextlib.closing(connect(database.settings)) as opened:
        yield opened


@pytest.fixture
def today(database: Database) -> date:
    [(day,)] = database.query("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert isinstance(day, date)
    return day


def days(database: Database, table: str) -> list[date]:
    rows = database.query(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %(table)s::regclass ORDER BY 1",
        {"table": table},
    )
    return [date.fromisoformat(name[-8:]) for (name,) in rows if not name.endswith("_default")]


def insert(database: Database, day: date, stored_days_ago: int = 0, offset: int = 0) -> None:
    """A result with two detections at noon of a day."""
    values = {
        "time": datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        "stored": datetime.now(UTC) - timedelta(days=stored_days_ago),
        "offset": offset,
    }
    database.query(
        f"INSERT INTO results (request_timestamp, {KEY}, source_topic, request_id, message_version, status, "
        "image_bucket, image_key, detection_count, analyzed_at, attributes, stored_at) VALUES "
        "(%(time)s, 'id', 0, %(offset)s, 0, 'm', '1', 't', 'r', 1, 'ok', 'b', 'k', 2, now(), '{}', "
        "%(stored)s)",
        values,
    )
    database.query(
        f"INSERT INTO detections (request_timestamp, {KEY}, detection_number, box_x_px, box_y_px, box_w_px, "
        "box_h_px, labels) SELECT %(time)s, 'id', 0, %(offset)s, 0, 'm', '1', n, 0, 0, 0, 0, '[]' "
        "FROM generate_series(0, 1) AS n",
        values,
    )


def test_partitions_are_made_ahead(database: Database, connection: Connection, today: date) -> None:
    assert Partitions(RETENTION_DAYS).maintain(connection)
    expected = [today + timedelta(days=ahead) for ahead in range(AHEAD_DAYS + 1)]
    assert days(database, "results") == expected
    assert days(database, "detections") == expected


def test_a_made_partition_has_all_that_its_parent_has(
    database: Database, connection: Connection, today: date
) -> None:
    Partitions(RETENTION_DAYS).maintain(connection)
    name = f"results_{today:%Y%m%d}"
    rows = database.query("SELECT indexdef FROM pg_indexes WHERE tablename = %(name)s", {"name": name})
    assert any("UNIQUE" in definition for (definition,) in rows)
    assert any("(request_id)" in definition for (definition,) in rows)
    bound = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = %(name)s"
    [(text,)] = database.query(bound, {"name": name})
    assert f"FROM ('{today} 00:00:00+00') TO ('{today + timedelta(days=1)} 00:00:00+00')" in text


def test_only_days_within_the_window_get_one(database: Database, connection: Connection, today: date) -> None:
    wanted = [today - timedelta(days=RETENTION_DAYS), today + timedelta(days=AHEAD_DAYS)]
    outside = [wanted[0] - timedelta(days=1), wanted[1] + timedelta(days=1), date(1970, 1, 1), date.max]
    Partitions(RETENTION_DAYS).ensure(connection, [*outside, *wanted])
    assert days(database, "results") == wanted


def test_rows_that_came_too_early_move_into_their_partition(
    database: Database, connection: Connection, today: date
) -> None:
    insert(database, today)
    insert(database, today - timedelta(days=400), offset=1)
    assert database.query("SELECT count(*) FROM results_default") == [(2,)]
    Partitions(RETENTION_DAYS).ensure(connection, [today])
    for table, count in (("results", 1), ("detections", 2)):
        assert database.query(f"SELECT count(*) FROM {table}_default") == [(count,)]
        assert database.query(f"SELECT count(*) FROM {table}_{today:%Y%m%d}") == [(count,)]


def test_old_partitions_are_dropped_and_the_last_day_stays(
    database: Database, connection: Connection, today: date
) -> None:
    kept = today - timedelta(days=RETENTION_DAYS)
    old = kept - timedelta(days=1)
    Partitions(RETENTION_DAYS + 1).ensure(connection, [old, kept])
    insert(database, old)
    insert(database, kept, offset=1)
    assert Partitions(RETENTION_DAYS).maintain(connection)
    assert kept in days(database, "results")
    assert old not in days(database, "results") + days(database, "detections")
    assert database.stored() == [1]
    assert database.query("SELECT count(*) FROM detections") == [(2,)]


def test_odd_timestamps_stay_as_long_after_they_were_stored(
    database: Database, connection: Connection
) -> None:
    insert(database, date(1970, 1, 1), stored_days_ago=RETENTION_DAYS + 1, offset=1)
    insert(database, date(1970, 1, 1), stored_days_ago=RETENTION_DAYS - 1, offset=2)
    insert(database, date(2262, 1, 1), stored_days_ago=RETENTION_DAYS + 1, offset=3)
    assert Partitions(RETENTION_DAYS).maintain(connection)
    assert database.stored() == [2]
    assert database.query("SELECT count(*) FROM detections") == [(2,)]


def test_a_locked_table_holds_nobody_up_for_long(
    database: Database, connection: Connection, today: date
) -> None:
    partitions = Partitions(RETENTION_DAYS)
    with contextlib.closing(connect(database.settings)) as reader:
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM results, detections")
        assert not partitions.maintain(connection)
        partitions.ensure(connection, [today])
        assert days(database, "results") == []
    assert partitions.maintain(connection)
    assert today in days(database, "results")


def test_a_day_keeps_its_detections_until_its_results_are_dropped(
    database: Database, connection: Connection, today: date
) -> None:
    old = today - timedelta(days=RETENTION_DAYS + 1)
    Partitions(RETENTION_DAYS + 1).ensure(connection, [old])
    with contextlib.closing(connect(database.settings)) as reader:
        with reader.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM results_{old:%Y%m%d}")
        assert not Partitions(RETENTION_DAYS).maintain(connection)
        assert old in days(database, "detections")
    assert Partitions(RETENTION_DAYS).maintain(connection)
    assert old not in days(database, "results") + days(database, "detections")


def test_expiry_passes_by_what_another_sink_is_deleting(database: Database, connection: Connection) -> None:
    partitions = Partitions(RETENTION_DAYS)
    assert partitions.maintain(connection)
    for offset in (1, 2):
        insert(database, date(1970, 1, 1), stored_days_ago=RETENTION_DAYS + 1, offset=offset)
    with contextlib.closing(connect(database.settings)) as other:
        with other.cursor() as cursor:
            cursor.execute("DELETE FROM results_default WHERE source_offset = 1")
        assert partitions.maintain(connection)
    assert database.stored() == [1]
    assert database.query("SELECT count(*) FROM detections") == [(2,)]


def test_an_expiry_that_fails_holds_nobody_up(database: Database, connection: Connection) -> None:
    partitions = Partitions(RETENTION_DAYS)
    assert partitions.maintain(connection)
    insert(database, date(1970, 1, 1), stored_days_ago=RETENTION_DAYS + 1)
    with contextlib.closing(connect(database.settings)) as other:
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLE detections_default")
        assert not partitions.maintain(connection)
    assert partitions.maintain(connection)
    assert database.stored() == []


def test_several_sinks_at_once_make_each_partition_once(database: Database, today: date) -> None:
    def maintain(_: int) -> bool:
        with contextlib.closing(connect(database.settings)) as own:
            return Partitions(RETENTION_DAYS).maintain(own)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(maintain, range(4)))
    assert len(days(database, "results")) == AHEAD_DAYS + 1
