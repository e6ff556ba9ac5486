"""Creating and describing topics on a real broker."""

import json
import logging
import os
import subprocess
import sys

import msgspec
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from infra import topics
from infra.exit_codes import ExitCode
from infra.kafka import KafkaUnavailable, TopicNotFound, make_admin
from infra.settings import KafkaSettings, TopicSettings
from tests.stack import RunningStack, unique


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaSettings:
    """Settings with topic names of this test's own."""
    return msgspec.structs.replace(
        stack.kafka,
        images_topic=unique("images"),
        results_topic=unique("results"),
        dead_letters_topic=unique("dead"),
    )


def environment(kafka: KafkaSettings) -> dict[str, str]:
    """What leads a command to the topics of a test."""
    return {
        **os.environ,
        "KAFKA_IMAGES_TOPIC": kafka.images_topic,
        "KAFKA_RESULTS_TOPIC": kafka.results_topic,
        "KAFKA_DEAD_LETTERS_TOPIC": kafka.dead_letters_topic,
    }


def analysis(kafka: KafkaSettings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments],
        env=environment(kafka),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_create_makes_what_the_settings_say(kafka: KafkaSettings) -> None:
    wanted = TopicSettings(partitions=3)
    created = topics.create(kafka, wanted)
    assert created == [kafka.images_topic, kafka.results_topic, kafka.dead_letters_topic]
    states = topics.describe(kafka)
    for state, spec in zip(states, topics.specs(kafka, wanted), strict=True):
        assert list(topics.differences(state, spec)) == []
        assert set(spec.config) <= state.explicit
    assert not [finding for finding in topics.findings(states) if finding.level == "problem"]


def test_create_again_changes_nothing_and_tells_differences(
    kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    topics.create(kafka, TopicSettings(partitions=3))
    before = topics.describe(kafka)
    with caplog.at_level(logging.WARNING, logger="infra.topics"):
        assert topics.create(kafka, TopicSettings(partitions=5, retention_hours=1)) == []
    assert topics.describe(kafka) == before
    lines = [record.getMessage() for record in caplog.records]
    assert f"topic {kafka.images_topic}: it has 3 partitions, not 5; left as it is" in lines
    assert any("retention.ms is 604800000, not 3600000" in line for line in lines)


def test_a_topic_that_was_made_by_hand_is_found_out(kafka: KafkaSettings) -> None:
    config = {"cleanup.policy": "compact"}
    by_hand = NewTopic(kafka.images_topic, num_partitions=8, replication_factor=1, config=config)
    admin = make_admin(kafka)
    admin.create_topics([by_hand])[kafka.images_topic].result(30)
    topics.create(kafka, TopicSettings())
    found = topics.findings(topics.describe(kafka))
    problems = {finding.message.split(":")[0] for finding in found if finding.level == "problem"}
    assert "cleanup.policy has compact" in problems
    assert "min.insync.replicas is not set on the topic" in problems
    assert f"it has 4 partitions, {kafka.images_topic} has 8" in problems


def test_missing_topic_and_missing_broker_are_named(kafka: KafkaSettings) -> None:
    with pytest.raises(TopicNotFound, match=kafka.images_topic):
        topics.describe(kafka)
    nowhere = msgspec.structs.replace(kafka, bootstrap_servers="127.0.0.1:1")
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1 "):
        topics.create(nowhere, TopicSettings())


def test_a_topic_that_the_brokers_refuse_is_named_with_its_settings(kafka: KafkaSettings) -> None:
    refused = analysis(kafka, "topics", "create", "--replication-factor", "3")
    assert refused.returncode == ExitCode.UNAVAILABLE
    assert refused.stderr.startswith("error [topic_mismatch]")
    assert f"{kafka.images_topic} with " in refused.stderr
    assert "TOPIC_REPLICATION_FACTOR=3" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_commands(kafka: KafkaSettings) -> None:
    missing = analysis(kafka, "topics", "describe")
    assert missing.returncode == ExitCode.UNAVAILABLE
    assert missing.stderr.startswith("error [topic_not_found]")

    created = analysis(kafka, "topics", "create", "--partitions", "2", "--json")
    assert created.returncode == 0, created.stderr
    assert json.loads(created.stdout)["created"] == json.loads(created.stdout)["topics"]
    again = analysis(kafka, "topics", "create", "--partitions", "3")
    assert again.returncode == 0
    assert f"{kafka.images_topic}: exists" in again.stdout
    assert f"topic {kafka.images_topic}: it has 2 partitions, not 3" in again.stderr

    described = analysis(kafka, "topics", "describe", "--json")
    assert described.returncode == 0, described.stderr
    assert [topic["partitions"] for topic in json.loads(described.stdout)["topics"]] == [2, 2, 1]
    table = analysis(kafka, "topics", "describe")
    assert kafka.dead_letters_topic in table.stdout
    assert "note: " in table.stdout


def test_describe_fails_where_a_promise_is_broken(kafka: KafkaSettings) -> None:
    topics.create(kafka, TopicSettings())
    change = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, kafka.images_topic, incremental_configs=[change])
    admin = make_admin(kafka)
    admin.incremental_alter_configs([resource])[resource].result(30)
    described = analysis(kafka, "topics", "describe")
    assert described.returncode == ExitCode.FAILED
    assert "problem: " in described.stdout
