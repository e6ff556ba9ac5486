"""The sink between a real Kafka and a real PostgreSQL."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.kafka import client_config, make_admin
from schemas.codec import encode
from schemas.dead_letters import DeadLetterReason
from schemas.errors import ErrorCode
from schemas.headers import Headers
from tests.sink_support import PARTITIONS, World, eventually, make_result, sink_world
from tests.stack import RunningStack


@pytest.fixture(params=["classic", "consumer"])
def world(request: pytest.FixtureRequest, stack: RunningStack) -> Iterator[World]:
    with sink_world(stack, group_protocol=request.param) as made:
        yield made


@pytest.fixture
def classic(stack: RunningStack) -> Iterator[World]:
    with sink_world(stack) as made:
        yield made


def publish(world: World, first: int, count: int) -> None:
    """Results with source offsets from `first`, spread over all partitions."""
    for partition in range(PARTITIONS):
        world.publish(map(make_result, range(first + partition, first + count, PARTITIONS)), partition)


def await_stored(world: World, count: int) -> None:
    def all_there() -> bool:
        return world.database.query("SELECT count(*) FROM results") >= [(count,)]

    eventually(f"{count} results are stored", all_there)


def await_offsets(world: World, total: int) -> None:
    eventually(f"offsets add up to {total}", lambda: sum(world.database.offsets().values()) == total)


def group_offsets(world: World) -> list[int]:
    consumer = Consumer({**client_config(world.kafka), "group.id": world.settings.group_id})
    with contextlib.closing(consumer):
        places = [TopicPartition(world.kafka.results_topic, number) for number in range(PARTITIONS)]
        return [place.offset for place in consumer.committed(places, timeout=20)]


def set_group_offsets(world: World, offset: int) -> None:
    consumer = Consumer({**client_config(world.kafka), "group.id": world.settings.group_id})
    with contextlib.closing(consumer):
        places = [TopicPartition(world.kafka.results_topic, number, offset) for number in range(PARTITIONS)]
        consumer.commit(offsets=places, asynchronous=False)


def test_every_result_becomes_a_row(world: World) -> None:
    publish(world, 0, 1000)
    with world.running():
        await_stored(world, 1000)
        publish(world, 1000, 200)
        await_stored(world, 1200)
    assert world.database.stored() == list(range(1200))
    assert world.database.query("SELECT count(*) FROM detections") == [(1200,)]
    assert world.database.offsets() == dict.fromkeys(range(PARTITIONS), 300)


def test_the_groups_offsets_follow_for_lag_tools(classic: World) -> None:
    publish(classic, 0, 40)
    with classic.running():
        await_stored(classic, 40)
        eventually("the group's offsets follow", lambda: group_offsets(classic) == [10] * PARTITIONS)


@pytest.mark.parametrize("group_offset", [0, 90])
def test_a_restart_goes_on_from_postgresql_whatever_the_group_says(world: World, group_offset: int) -> None:
    publish(world, 0, 400)
    with world.running():
        await_stored(world, 400)
    set_group_offsets(world, group_offset)
    publish(world, 400, 400)
    with world.running():
        await_stored(world, 800)
        await_offsets(world, 800)
    assert world.database.stored() == list(range(800))


def test_another_group_stores_nothing_twice(classic: World) -> None:
    publish(classic, 0, 100)
    with classic.running():
        await_stored(classic, 100)
    classic.settings = msgspec.structs.replace(classic.settings, group_id=f"{classic.settings.group_id}-b")
    publish(classic, 100, 20)
    with classic.running():
        await_stored(classic, 120)
    assert classic.database.stored() == list(range(120))


def test_two_sinks_share_the_partitions_and_hand_them_over(world: World) -> None:
    publish(world, 0, 400)
    with world.running():
        await_stored(world, 400)
        with world.running():
            eventually("both have partitions", lambda: len(owners(world)) == 2)
            publish(world, 400, 400)
            await_stored(world, 800)
        publish(world, 800, 400)
        await_stored(world, 1200)
        await_offsets(world, 1200)
    assert world.database.stored() == list(range(1200))


def test_a_sink_without_a_partition_is_ready_too(stack: RunningStack) -> None:
    with (
        sink_world(stack, partitions=1, group_protocol="consumer") as world,
        world.running(),
        world.running(),
    ):
        assert len(owners(world)) == 1


def test_a_sink_whose_place_in_the_group_is_taken_ends(
    stack: RunningStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    properties = tmp_path / "kafka.properties"
    properties.write_text("group.instance.id=the only one\n")
    with (
        sink_world(stack, config_file=str(properties)) as world,
        pytest.raises(KafkaException, match="fenced"),
    ):
        run_until_told(world, caplog, "Fatal error")


def run_until_told(world: World, caplog: pytest.LogCaptureFixture, words: str) -> None:
    with world.running(), world.running():
        eventually(f"the log says {words!r}", lambda: words in caplog.text)


def owners(world: World) -> list[str]:
    group = world.settings.group_id
    admin = make_admin(world.kafka)
    described = admin.describe_consumer_groups([group], request_timeout=20)
    members = described[group].result(20).members
    return [member.member_id for member in members if member.assignment.topic_partitions]


def test_what_cannot_be_a_row_is_dead_lettered_and_its_neighbours_stored(classic: World) -> None:
    refused = encode(make_result(1, request_id="a\0b"))
    classic.publish([make_result(0)])
    classic.publish_raw([refused, b"not JSON", None, b'{"version": 7}'], key=b"key")
    classic.publish([make_result(2)])
    with classic.running():
        await_offsets(classic, 6)
    assert classic.database.stored() == [0, 2]
    letters = classic.dead_letters(3)
    assert [letter.value() for letter in letters] == [refused, b"not JSON", b'{"version": 7}']
    headers = [cast(Headers, letter.headers()) for letter in letters]
    reasons = [DeadLetterReason.from_headers(each) for each in headers]
    assert [reason.code for reason in reasons] == [
        ErrorCode.ROW_REFUSED,
        ErrorCode.MESSAGE_NOT_JSON,
        ErrorCode.MESSAGE_VERSION_UNSUPPORTED,
    ]
    assert [reason.offset for reason in reasons] == [1, 2, 4]
    assert {letter.key() for letter in letters} == {b"key"}
    assert {each[0] for each in headers} == {("original", b"header")}
    assert {(reason.component, reason.topic) for reason in reasons} == {("sink", classic.kafka.results_topic)}


def test_results_that_expired_are_given_up_and_the_rest_stored(
    classic: World, caplog: pytest.LogCaptureFixture
) -> None:
    publish(classic, 0, 40)
    with classic.running():
        await_stored(classic, 40)
    publish(classic, 40, 40)
    places = [TopicPartition(classic.kafka.results_topic, number, 15) for number in range(PARTITIONS)]
    admin = make_admin(classic.kafka)
    for future in admin.delete_records(places).values():
        future.result(20)
    with classic.running():
        await_offsets(classic, 80)
    assert classic.database.stored() == [*range(40), *range(60, 80)]
    assert "5 results, from offset 10, expired before they were stored" in caplog.text


def test_a_topic_made_anew_is_read_from_its_beginning(classic: World) -> None:
    publish(classic, 0, 40)
    with classic.running():
        await_stored(classic, 40)
    classic.delete_topics()
    eventually("the topic can be made again", lambda: made_again(classic))
    publish(classic, 40, 20)
    with classic.running():
        await_stored(classic, 60)
    assert classic.database.stored() == list(range(60))
    [(topics,)] = classic.database.query("SELECT count(DISTINCT topic_id) FROM sink_offsets")
    assert topics == 2


def test_a_topic_made_anew_under_a_running_sink_is_read_from_its_beginning(classic: World) -> None:
    publish(classic, 0, 40)
    with classic.running():
        await_stored(classic, 40)
        classic.delete_topics()
        eventually("the topic can be made again", lambda: made_again(classic))
        publish(classic, 40, 20)
        await_stored(classic, 60)
    assert classic.database.stored() == list(range(60))


def made_again(world: World) -> bool:
    with contextlib.suppress(KafkaException):
        world.create_topics()
        return True
    return False


def test_offsets_beyond_the_end_are_read_again_from_the_beginning(
    classic: World, caplog: pytest.LogCaptureFixture
) -> None:
    publish(classic, 0, 40)
    with classic.running():
        await_stored(classic, 40)
    classic.database.query("UPDATE sink_offsets SET next_offset = 1000")
    publish(classic, 40, 40)
    with classic.running():
        await_offsets(classic, 80)
    assert classic.database.stored() == list(range(80))
    assert "the log ends at 20 but was read up to 1000" in caplog.text


def test_a_batch_that_another_sink_has_stored_is_dropped_and_reading_goes_on(
    classic: World, caplog: pytest.LogCaptureFixture
) -> None:
    publish(classic, 0, 40)
    with classic.running():
        await_stored(classic, 40)
        classic.database.query("UPDATE sink_offsets SET next_offset = 15")
        publish(classic, 40, 40)
        await_offsets(classic, 80)
    # What lay before 15 counts as stored by the other one: nothing was ever sent to make it so.
    assert classic.database.stored() == [*range(40), *range(60, 80)]
    assert "another sink was faster" in caplog.text


def test_a_partition_can_be_dropped_while_the_sink_writes(classic: World) -> None:
    with classic.running():
        publish(classic, 0, 40)
        await_stored(classic, 40)
        [(name,)] = classic.database.query("SELECT DISTINCT tableoid::regclass::text FROM results")
        classic.database.query(f"DROP TABLE {name}")
        publish(classic, 40, 40)
        await_stored(classic, 40)
    assert classic.database.stored() == list(range(40, 80))
    assert classic.database.query("SELECT count(*) FROM results_default") == [(40,)]
