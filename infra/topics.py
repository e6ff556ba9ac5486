"""The Kafka topics: what they must be like for the promises to hold, creating them, and checking them.

Requests and results have as many partitions as each other, so that answers can keep the order of each
input partition. Dead letters are few and read by people: one partition, one order.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from infra.kafka import (
    MAX_DEAD_LETTER_BYTES,
    MAX_RECORD_BYTES,
    KafkaUnavailable,
    TopicNotFound,
    is_transient,
    make_admin,
    require_broker,
    require_topics,
)
from infra.settings import KafkaSettings, TopicSettings
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

Role = Literal["images", "results", "dead-letters"]

_HOUR_MS = 3_600_000
_ANSWER_S = 30.0


class TopicSpec(msgspec.Struct, frozen=True):
    """What one topic should be like."""

    role: Role
    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str]


class TopicState(msgspec.Struct, frozen=True, kw_only=True):
    """What one topic is like; `config` holds the values in force, `explicit` the names set on the topic."""

    role: Role
    name: str
    topic_id: str
    partitions: int
    replication_factor: int
    config: dict[str, str]
    explicit: frozenset[str]
    under_replicated: tuple[int, ...] = ()
    leaderless: tuple[int, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """Something about a topic: a `problem` breaks a promise, a `note` weakens one."""

    topic: str
    level: Literal["problem", "note"]
    message: str


class TopicRefused(AnalysisError):
    """The brokers do not create a topic as the settings describe it."""

    def __init__(self, spec: TopicSpec, reason: str) -> None:
        super().__init__(
            ErrorCode.TOPIC_MISMATCH,
            f"the brokers refuse to create the topic {spec.name} with TOPIC_PARTITIONS={spec.partitions} "
            f"and TOPIC_REPLICATION_FACTOR={spec.replication_factor}: {reason}",
        )


def specs(kafka: KafkaSettings, topics: TopicSettings) -> tuple[TopicSpec, ...]:
    """The three topics as the settings describe them."""
    retention_ms = topics.retention_hours * _HOUR_MS
    dead_retention_ms = topics.dead_letter_retention_hours * _HOUR_MS

    def spec(role: Role, name: str, partitions: int, config: dict[str, str]) -> TopicSpec:
        return TopicSpec(role, name, partitions, topics.replication_factor, config)

    return (
        spec(
            "images", kafka.images_topic, topics.partitions, _config(topics, retention_ms, MAX_RECORD_BYTES)
        ),
        spec(
            "results", kafka.results_topic, topics.partitions, _config(topics, retention_ms, MAX_RECORD_BYTES)
        ),
        spec(
            "dead-letters",
            kafka.dead_letters_topic,
            1,
            _config(topics, dead_retention_ms, MAX_DEAD_LETTER_BYTES),
        ),
    )


def _config(topics: TopicSettings, retention_ms: int, max_bytes: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "max.message.bytes": str(max_bytes),
        # The broker's clock, not a publisher's: rows are partitioned by a request's day, and results
        # are found by time.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(topics.min_insync_replicas),
        "retention.bytes": "-1",
        "retention.ms": str(retention_ms),
        # Only closed segments expire, so a topic keeps up to this much longer than its retention.
        "segment.ms": str(min(24 * _HOUR_MS, retention_ms)),
        "unclean.leader.election.enable": "false",
    }


def create(kafka: KafkaSettings, topics: TopicSettings) -> list[str]:
    """Creates the topics that do not exist; those that do stay as they are, and differences are logged.

    Returns:
        The names of the topics that were created; clients see them by then.

    Raises:
        KafkaUnavailable: no broker answers.
        TopicRefused: the brokers refuse, for want of brokers or rights.
    """
    admin = make_admin(kafka)
    wanted = specs(kafka, topics)
    existing = _existing(admin, kafka)
    missing = [spec for spec in wanted if spec.name not in existing]
    created = [spec.name for spec in missing if _create_one(admin, kafka, spec)]
    for state, spec in zip(_describe_patiently(kafka, admin), wanted, strict=True):
        for difference in differences(state, spec):
            logger.warning("topic %s: %s; left as it is", spec.name, difference)
    return created


def describe(kafka: KafkaSettings, admin: AdminClient | None = None) -> list[TopicState]:
    """The topics as the brokers have them, in the order of `specs`.

    Raises:
        KafkaUnavailable: no broker answers.
        TopicNotFound: a topic does not exist.
    """
    roles: dict[Role, str] = {
        "images": kafka.images_topic,
        "results": kafka.results_topic,
        "dead-letters": kafka.dead_letters_topic,
    }
    ids = require_topics(kafka, roles.values())
    admin = admin or make_admin(kafka)
    return [_state(admin, role, name, ids[name]) for role, name in roles.items()]


def differences(state: TopicState, spec: TopicSpec) -> Iterator[str]:
    """How a topic differs from its specification, a sentence each."""
    if state.partitions != spec.partitions:
        yield f"it has {state.partitions} partitions, not {spec.partitions}"
    if state.replication_factor != spec.replication_factor:
        yield f"its replication factor is {state.replication_factor}, not {spec.replication_factor}"
    for name, value in spec.config.items():
        if state.config.get(name) != value:
            yield f"{name} is {state.config.get(name)}, not {value}"


def findings(states: Iterable[TopicState]) -> list[Finding]:
    """What about the topics breaks or weakens the promises."""
    states = list(states)
    found = [Finding(state.name, level, text) for state in states for level, text in _check(state)]
    by_role = {state.role: state for state in states}
    images, results = by_role.get("images"), by_role.get("results")
    if images and results and results.partitions < images.partitions:
        text = f"it has {results.partitions} partitions, {images.name} has {images.partitions}: order is lost"
        found.append(Finding(results.name, "problem", text))
    return found


def _check(state: TopicState) -> Iterator[tuple[Literal["problem", "note"], str]]:
    yield from _check_config(state)
    yield from _check_replicas(state)
    for kind, partitions in (
        ("no leader", state.leaderless),
        ("too few in-sync replicas", state.under_replicated),
    ):
        if partitions:
            yield "problem", f"{kind} in partition {', '.join(map(str, partitions))}"


def _check_config(state: TopicState) -> Iterator[tuple[Literal["problem", "note"], str]]:
    config = state.config
    if "compact" in config.get("cleanup.policy", ""):
        yield "problem", "cleanup.policy has compact: records that share a key are deleted"
    if config.get("unclean.leader.election.enable") == "true":
        yield "problem", "unclean.leader.election.enable is true: acknowledged records can be lost"
    if config.get("message.timestamp.type") != "LogAppendTime":
        yield "problem", "message.timestamp.type is not LogAppendTime: publishers choose a row's day"
    if config.get("retention.bytes", "-1") != "-1":
        yield "note", "retention.bytes is set: records can be deleted before they are read"
    least = MAX_DEAD_LETTER_BYTES if state.role == "dead-letters" else MAX_RECORD_BYTES
    if int(config.get("max.message.bytes", least)) < least:
        yield "problem", f"max.message.bytes is {config['max.message.bytes']}, under {least}"


def _check_replicas(state: TopicState) -> Iterator[tuple[Literal["problem", "note"], str]]:
    replicas = state.replication_factor
    in_sync = int(state.config.get("min.insync.replicas", "1"))
    if "min.insync.replicas" not in state.explicit:
        yield "problem", "min.insync.replicas is not set on the topic: the broker's default decides"
    if replicas == 1:
        yield "note", "replication factor 1: a lost disk loses records (3 on a real cluster)"
    elif in_sync == 1:
        yield "problem", "min.insync.replicas is 1: a record that one broker alone has counts as safe"
    elif in_sync == replicas:
        yield "note", f"min.insync.replicas is {in_sync}: one broker away stops all writing"
    if in_sync > replicas:
        yield "problem", f"min.insync.replicas is {in_sync}, with {replicas} replicas: nothing can be written"


def _describe_patiently(kafka: KafkaSettings, admin: AdminClient) -> list[TopicState]:
    """Describes topics that exist: a broker hears of a new one a moment after the controller made it."""
    deadline = time.monotonic() + _ANSWER_S
    while True:
        try:
            return describe(kafka, admin)
        except TopicNotFound:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _existing(admin: AdminClient, kafka: KafkaSettings) -> set[str]:
    require_broker(kafka)
    try:
        return set(admin.list_topics(timeout=10).topics)
    except KafkaException:
        raise KafkaUnavailable(kafka) from None


def _create_one(admin: AdminClient, kafka: KafkaSettings, spec: TopicSpec) -> bool:
    """Whether this call created the topic; false where someone else did meanwhile."""
    topic = NewTopic(
        spec.name,
        num_partitions=spec.partitions,
        replication_factor=spec.replication_factor,
        config=spec.config,
    )
    try:
        admin.create_topics([topic], operation_timeout=_ANSWER_S)[spec.name].result(_ANSWER_S)
    except TimeoutError:
        raise KafkaUnavailable(kafka) from None
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        if is_transient(reason):
            raise KafkaUnavailable(kafka) from None
        raise TopicRefused(spec, reason.str()) from None
    return True


def _state(admin: AdminClient, role: Role, name: str, topic_id: str) -> TopicState:
    topic = admin.describe_topics(TopicCollection([name]))[name].result(_ANSWER_S)
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = admin.describe_configs([resource])[resource].result(_ANSWER_S)
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return TopicState(
        role=role,
        name=name,
        topic_id=topic_id,
        partitions=len(topic.partitions),
        replication_factor=min((len(p.replicas) for p in topic.partitions), default=0),
        config={key: entry.value for key, entry in entries.items() if entry.value is not None},
        explicit=frozenset(key for key, entry in entries.items() if entry.source == own),
        under_replicated=tuple(p.id for p in topic.partitions if len(p.isr) < len(p.replicas)),
        leaderless=tuple(p.id for p in topic.partitions if p.leader is None or p.leader.id < 0),
    )
