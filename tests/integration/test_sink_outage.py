"""Outages of PostgreSQL and of the broker's dead-letter topic are waited out."""

import contextlib
import os
import signal
from collections.abc import Iterator

import msgspec
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from infra.kafka import make_admin
from infra.local import process
from infra.local.stack import local_stack
from tests.sink_support import World, eventually, make_result, sink_world
from tests.stack import RunningStack


@pytest.fixture
def world(stack: RunningStack) -> Iterator[World]:
    with sink_world(stack) as made:
        yield made


@contextlib.contextmanager
def away(server: str) -> Iterator[None]:
    """Kills one of the stack's servers, and starts it again at the end."""
    record = local_stack().folder.record(server)
    assert record is not None
    process.stop(record, ((signal.SIGKILL, 10.0),))
    try:
        yield
    finally:
        local_stack().up(services_only=True)


def await_stored(world: World, count: int) -> None:
    eventually(f"{count} results", lambda: len(world.database.stored()) >= count)


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in message for message in caplog.messages)


def test_a_crash_of_postgresql_is_waited_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world.publish(map(make_result, range(100)))
    with world.running():
        await_stored(world, 100)
        with away("postgres"):
            world.publish(map(make_result, range(100, 1000)))
            eventually("the sink notices", lambda: said(caplog, "waiting with") > 0)
        await_stored(world, 1000)
        assert said(caplog, "revoked") == 0
    assert world.database.stored() == list(range(1000))
    assert said(caplog, "waiting with") == said(caplog, "going on after") == 1


def test_partitions_that_come_while_postgresql_is_away_are_read_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with world.running():
        with contextlib.ExitStack() as other:
            other.enter_context(world.running())
            eventually("both have partitions", lambda: said(caplog, "revoked: [") > 0)
            with away("postgres"):
                for partition in range(4):
                    world.publish(map(make_result, range(partition, 400, 4)), partition)
                other.close()
                eventually("the first takes over", lambda: said(caplog, "wait for their offsets") > 0)
        await_stored(world, 400)
    assert world.database.stored() == list(range(400))


def test_terminated_connections_lose_and_double_nothing(world: World) -> None:
    world.settings = msgspec.structs.replace(world.settings, batch_rows=20, batch_wait_ms=1.0)
    world.publish(map(make_result, range(5000)))
    with world.running():
        for least in range(500, 4500, 500):
            await_stored(world, least)
            world.database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'analysis sink'"
            )
        await_stored(world, 5000)
    assert world.database.stored() == list(range(5000))
    assert sum(world.database.offsets().values()) == 5000


def test_a_crash_of_the_broker_is_waited_out_and_keeps_nobody_from_stopping(world: World) -> None:
    world.publish(map(make_result, range(100)))
    with world.running():
        with contextlib.ExitStack() as other:
            other.enter_context(world.running())
            await_stored(world, 100)
            with away("kafka"):
                other.close()
        world.publish(map(make_result, range(100, 300)))
        await_stored(world, 300)
    assert world.database.stored() == list(range(300))


def test_a_dead_letter_that_is_too_large_goes_without_its_value(world: World) -> None:
    limit_dead_letters(world, 5000)
    world.publish_raw([os.urandom(100_000), b"short"])
    world.publish_raw([b"{"], key=os.urandom(10_000))
    world.publish([make_result()])
    with world.running():
        await_stored(world, 1)
    letters = [(letter.value(), dict(letter.headers() or [])) for letter in world.dead_letters(3)]
    assert {(value, headers["dlq.source.offset"]) for value, headers in letters} == {
        (None, b"0"),
        (b"short", b"1"),
        (None, b"2"),
    }
    # The key of the last did not fit either; what our own headers say does.
    assert ["original" in headers for _, headers in letters].count(False) == 1


def test_nothing_is_stored_before_its_dead_letters_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    limit_dead_letters(world, 10)
    world.publish_raw([b"not JSON"])
    world.publish([make_result()])
    with world.running():
        eventually("the sink waits", lambda: said(caplog, "dead letters were not acknowledged") > 0)
        assert (world.database.stored(), sum(world.database.offsets().values())) == ([], 0)
        limit_dead_letters(world, 100_000)
        await_stored(world, 1)
    assert len(world.dead_letters(1)) == 1


def limit_dead_letters(world: World, limit_bytes: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(limit_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, world.kafka.dead_letters_topic, incremental_configs=[entry])
    admin = make_admin(world.kafka)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)
