"""Which topic settings break the service's promises."""

from typing import Any

import msgspec
import pytest

from infra.kafka import MAX_RECORD_BYTES
from infra.settings import KafkaSettings, TopicSettings
from infra.topics import Role, TopicState, differences, findings, specs


def states(
    topics: TopicSettings, changed: Role | None = None, config: dict[str, str] | None = None, **fields: Any
) -> list[TopicState]:
    """The topics as `create` makes them, one of them changed."""
    made = [
        TopicState(
            role=spec.role,
            name=spec.name,
            topic_id="id",
            partitions=spec.partitions,
            replication_factor=spec.replication_factor,
            config=spec.config,
            explicit=frozenset(spec.config),
        )
        for spec in specs(KafkaSettings(), topics)
    ]
    return [
        msgspec.structs.replace(state, config={**state.config, **(config or {})}, **fields)
        if state.role == changed
        else state
        for state in made
    ]


REAL = TopicSettings(replication_factor=3, min_insync_replicas=2)


def test_what_create_makes_on_a_real_cluster_has_no_findings() -> None:
    assert findings(states(REAL)) == []


def test_one_copy_is_a_note_and_no_problem() -> None:
    found = findings(states(TopicSettings()))
    assert [finding.level for finding in found] == ["note"] * 3
    assert "replication factor 1" in found[0].message


@pytest.mark.parametrize(
    ("role", "config", "fields", "text"),
    [
        ("images", {"cleanup.policy": "compact"}, {}, "cleanup.policy has compact"),
        ("images", {"cleanup.policy": "compact,delete"}, {}, "cleanup.policy has compact"),
        ("results", {"unclean.leader.election.enable": "true"}, {}, "unclean.leader.election.enable"),
        ("images", {"message.timestamp.type": "CreateTime"}, {}, "message.timestamp.type"),
        ("images", {"max.message.bytes": "1000"}, {}, "max.message.bytes is 1000"),
        ("dead-letters", {"max.message.bytes": str(MAX_RECORD_BYTES)}, {}, "max.message.bytes"),
        ("images", {}, {"explicit": frozenset[str]()}, "min.insync.replicas is not set"),
        ("images", {"min.insync.replicas": "1"}, {}, "min.insync.replicas is 1"),
        ("images", {"min.insync.replicas": "4"}, {}, "nothing can be written"),
        ("images", {}, {"under_replicated": (2, 3)}, "too few in-sync replicas in partition 2, 3"),
        ("images", {}, {"leaderless": (1,)}, "no leader in partition 1"),
        ("results", {}, {"partitions": 2}, "order is lost"),
    ],
)
def test_problems(role: Role, config: dict[str, str], fields: dict[str, Any], text: str) -> None:
    found = findings(states(REAL, role, config, **fields))
    assert [finding.level for finding in found] == ["problem"]
    assert text in found[0].message


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"retention.bytes": "1000"}, "retention.bytes is set"),
        ({"min.insync.replicas": "3"}, "one broker away stops all writing"),
    ],
)
def test_notes(config: dict[str, str], text: str) -> None:
    found = findings(states(REAL, "images", config))
    assert [finding.level for finding in found] == ["note"]
    assert text in found[0].message


def test_differences_name_the_setting_and_both_values() -> None:
    images = states(REAL, "images", {"retention.ms": "5"}, partitions=7)[0]
    assert list(differences(images, specs(KafkaSettings(), REAL)[0])) == [
        "it has 7 partitions, not 4",
        "retention.ms is 5, not 604800000",
    ]


def test_dead_letters_stay_longer_and_are_larger() -> None:
    images, results, dead = specs(KafkaSettings(), TopicSettings(partitions=6))
    assert (images.partitions, results.partitions, dead.partitions) == (6, 6, 1)
    assert int(dead.config["retention.ms"]) == 30 * 24 * 3_600_000
    assert int(dead.config["max.message.bytes"]) > int(images.config["max.message.bytes"])
