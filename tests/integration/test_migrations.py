"""Migrations on a real PostgreSQL."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

import infra.migrations
from infra.migrations import LOCK_KEY, DatabaseNotMigrated, MigrationChanged, migrate, require_migrated
from infra.postgres import DatabaseUnavailable, connect
from infra.settings import DatabaseSettings, SettingError
from infra.sql import migrations
from tests.sink_support import Database, eventually, fresh_database
from tests.stack import RunningStack


@pytest.fixture
def migrated(stack: RunningStack) -> Iterator[Database]:
    with fresh_database(stack.database) as database:
        yield database


@pytest.fixture
def empty(migrated: Database) -> Database:
    migrated.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return migrated


def test_four_processes_at_once_apply_each_migration_once(empty: Database) -> None:
    with holding_the_lock(empty):
        processes = [start_migrate(empty) for _ in range(4)]
        eventually("all four wait for the lock", lambda: waiting(empty) == 4)
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], answers
    assert sorted(out.split() for out, _ in answers) == [[], [], [], list(migrations())]


@contextlib.contextmanager
def holding_the_lock(database: Database) -> Iterator[None]:
    connection = connect(database.settings)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        yield


def start_migrate(database: Database) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "analysis", "migrate"],
        env={**os.environ, "DATABASE_URL": database.settings.url},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def waiting(database: Database) -> int:
    [(count,)] = database.query(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'analysis migrate' "
        "AND wait_event = 'advisory'"
    )
    return int(count)


def test_migrating_again_does_nothing(migrated: Database) -> None:
    assert migrate(migrated.settings) == []
    rows = migrated.query("SELECT name FROM schema_migrations ORDER BY name")
    assert [name for (name,) in rows] == list(migrations())


def test_an_edited_migration_is_noticed(migrated: Database) -> None:
    migrated.query("UPDATE schema_migrations SET checksum = 'of another text'")
    with pytest.raises(MigrationChanged, match="0001_results"):
        migrate(migrated.settings)
    with contextlib.closing(connect(migrated.settings)) as connection, pytest.raises(MigrationChanged):
        require_migrated(connection)


def test_a_migration_that_fails_leaves_nothing(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {
        **migrations(),
        "9998_made": "CREATE TABLE made ()",
        "9999_broken": "CREATE TABLE half (); SELECT 1/0",
    }
    monkeypatch.setattr(infra.migrations, "migrations", lambda: broken)
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(migrated.settings)
    assert migrated.query("SELECT to_regclass('made')::text, to_regclass('half')::text") == [("made", None)]
    assert migrated.query("SELECT name FROM schema_migrations WHERE name LIKE '9%'") == [("9998_made",)]


def test_an_empty_database_is_told_what_to_run(empty: Database) -> None:
    connection = connect(empty.settings)
    with contextlib.closing(connection), pytest.raises(DatabaseNotMigrated, match="analysis migrate"):
        require_migrated(connection)


def test_a_later_release_does_no_harm(migrated: Database) -> None:
    migrated.query("INSERT INTO schema_migrations (name, checksum) VALUES ('9999_later', 'x')")
    with contextlib.closing(connect(migrated.settings)) as connection:
        require_migrated(connection)


def test_no_error_shows_the_password(stack: RunningStack) -> None:
    password = stack.database.url.split(":")[2].split("@")[0]
    wrong_port = stack.database.url.rpartition(":")[0] + ":1/analysis"
    with pytest.raises(DatabaseUnavailable) as unavailable:
        connect(DatabaseSettings(url=wrong_port))
    with pytest.raises(SettingError) as malformed:
        connect(DatabaseSettings(url=stack.database.url.replace("@", "%00@")))
    for error in (unavailable.value, malformed.value):
        assert password not in f"{error}{error!r}"
    assert "127.0.0.1:1/analysis" in str(unavailable.value)
