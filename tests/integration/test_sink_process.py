"""`analysis sink` as a process: signals, kills, and what it says where something is missing."""

import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra.exit_codes import ExitCode
from tests.sink_support import PATIENCE_S, Database, World, eventually, make_result, sink_process, sink_world
from tests.stack import RunningStack


@pytest.fixture
def world(stack: RunningStack) -> Iterator[World]:
    with sink_world(stack) as made:
        # Small transactions, so that a kill finds one open; a short session, so that another takes over soon.
        made.kafka = msgspec.structs.replace(made.kafka, session_timeout_ms=2000)
        made.settings = msgspec.structs.replace(made.settings, batch_rows=20, batch_wait_ms=1.0)
        yield made


def count(database: Database) -> int:
    [(rows,)] = database.query("SELECT count(*) FROM results")
    return int(rows)


def await_count(database: Database, least: int, patience_s: float = PATIENCE_S) -> None:
    eventually(f"{least} results are stored", lambda: count(database) >= least, patience_s)


def test_kills_in_mid_stream_lose_and_double_nothing(world: World, tmp_path: Path) -> None:
    total = 8000
    world.publish(map(make_result, range(0, total, 2)), 0)
    world.publish(map(make_result, range(1, total, 2)), 1)
    for least in (200, 1500):
        with sink_process(world, tmp_path) as sink:
            await_count(world.database, least)
            assert sink.end(signal.SIGKILL) == -signal.SIGKILL
        assert count(world.database) < total
    with sink_process(world, tmp_path) as sink:
        await_count(world.database, total)
        assert sink.end(signal.SIGTERM) == ExitCode.OK
    assert world.database.stored() == list(range(total))
    assert world.database.query("SELECT count(*) FROM detections") == [(total,)]
    assert sum(world.database.offsets().values()) == total


@pytest.mark.timeout(300)
def test_a_frozen_sink_that_comes_back_stores_nothing_twice(world: World, tmp_path: Path) -> None:
    world.publish(map(make_result, range(4000)))
    with sink_process(world, tmp_path) as frozen:
        await_count(world.database, 100)
        frozen.process.send_signal(signal.SIGSTOP)
        with sink_process(world, tmp_path) as other:
            # Frozen in the middle of a COPY, it holds its offsets' rows until the statement's time-out.
            await_count(world.database, 4000, patience_s=120)
            frozen.process.send_signal(signal.SIGCONT)
            world.publish(map(make_result, range(4000, 5000)))
            await_count(world.database, 5000)
            assert frozen.end(signal.SIGTERM) == ExitCode.OK, frozen.log.read_text()
            assert other.end(signal.SIGTERM) == ExitCode.OK, other.log.read_text()
    assert world.database.stored() == list(range(5000))
    assert sum(world.database.offsets().values()) == 5000


def test_sigterm_ends_it_cleanly(world: World, tmp_path: Path) -> None:
    world.publish(map(make_result, range(100)))
    with sink_process(world, tmp_path) as sink:
        sink.await_ready()
        await_count(world.database, 100)
        assert sink.end(signal.SIGTERM) == ExitCode.OK
        assert "stored 100 results" in sink.log.read_text()


def test_without_a_database_it_says_what_to_run(world: World, tmp_path: Path) -> None:
    world.database.settings = msgspec.structs.replace(
        world.database.settings, url="postgresql://app:secret@127.0.0.1:1/analysis"
    )
    with sink_process(world, tmp_path) as sink:
        assert sink.process.wait(30) == ExitCode.UNAVAILABLE
        said = sink.log.read_text()
    assert "database_unavailable" in said
    assert "analysis up" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_without_tables_it_says_what_to_run(world: World, tmp_path: Path) -> None:
    world.database.query("DROP TABLE schema_migrations")
    with sink_process(world, tmp_path) as sink:
        assert sink.process.wait(30) == ExitCode.UNAVAILABLE
        assert "analysis migrate" in sink.log.read_text()


def test_without_topics_it_says_what_to_run(world: World, tmp_path: Path) -> None:
    there = world.kafka
    world.kafka = msgspec.structs.replace(there, results_topic="nobody-made-this")
    with sink_process(world, tmp_path) as sink:
        world.kafka = there
        assert sink.process.wait(30) == ExitCode.UNAVAILABLE
        assert "analysis topics create" in sink.log.read_text()


def test_tables_that_vanish_end_it_with_a_traceback(world: World, tmp_path: Path) -> None:
    with sink_process(world, tmp_path) as sink:
        sink.await_ready()
        world.database.query("DROP TABLE sink_offsets")
        world.publish([make_result()])
        assert sink.process.wait(30) == ExitCode.CRASHED
        assert "UndefinedTable" in sink.log.read_text()
