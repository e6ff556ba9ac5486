"""Kafka clients: one place that turns our settings into librdkafka's."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient

from infra.settings import KafkaSettings, SettingError
from schemas.errors import AnalysisError, ErrorCode
from schemas.headers import Headers

logger = logging.getLogger(__name__)

Config = dict[str, Any]

MAX_RECORD_BYTES = 2**20
"""Largest request or result, as brokers count: a whole batch, after compression."""

MAX_DEAD_LETTER_BYTES = MAX_RECORD_BYTES + 2**16
"""A dead letter is a whole record plus the headers that say why, so its topic takes more."""

# Measured against broker kills: with the defaults a client needs up to 8 s instead of 2 to notice that the
# broker is back.
_RECOVERY = {
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 3_000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.max.ms": 500,
}


T = TypeVar("T")

AGAIN_S = 0.2
ASK_S = 3.0
LEAVE_S = 0.5
CLOSE_S = 5.0
"""After an outage close() was seen to wait for 19 s."""


_LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_TRANSIENT = frozenset(
    {
        KafkaError._DESTROY_BROKER,  # the cluster does not list it any more: it has died, say
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._RESOLVE,
        KafkaError._RETRY,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)


class KafkaUnavailable(AnalysisError):
    """No broker answers at the configured address."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(
            ErrorCode.KAFKA_UNAVAILABLE,
            f"no Kafka broker answers at {settings.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS); "
            "`analysis up` starts a local one",
        )


class TopicNotFound(AnalysisError):
    """A topic that the service needs does not exist."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            ErrorCode.TOPIC_NOT_FOUND, f"the topic {topic} does not exist; `analysis topics create` makes it"
        )


def client_config(settings: KafkaSettings) -> Config:
    """What every client shares: addresses, recovery from outages, then the user's own properties.

    The user's properties win over our defaults, but never over what the promises rest on.

    Raises:
        SettingError: KAFKA_CONFIG_FILE cannot be read or has a line that is not `name=value`.
    """
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "error_cb": log_client_error,
        **_RECOVERY,
        **_read_properties(settings.config_file),
    }


def consumer_config(settings: KafkaSettings, group_id: str) -> Config:
    """A consumer that commits only what it is told to and reads only what was committed.

    Auto-commit is off because offsets belong to the transaction that holds their results.
    `read_committed` is needed on the input too: reading uncommitted, a worker that was frozen between
    sending offsets and committing them has produced duplicates.
    """
    return {
        "auto.offset.reset": "earliest",
        "max.poll.interval.ms": 120_000,
        **_group_protocol(settings),
        **client_config(settings),
        "group.id": group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
    }


def producer_config(settings: KafkaSettings) -> Config:
    """An idempotent producer: each record once, in order, on every in-sync replica."""
    return {
        "compression.type": "lz4",
        "linger.ms": 5,
        **client_config(settings),
        "enable.idempotence": True,
    }


def transactional_config(settings: KafkaSettings, transactional_id: str, timeout_ms: int) -> Config:
    """A producer whose records and offsets become visible together.

    Args:
        transactional_id: stable for one worker slot, so that a restart fences its predecessor.
        timeout_ms: after this the broker aborts an open transaction of a process that died.
    """
    return {
        **producer_config(settings),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timeout_ms,
        # With `rebootstrap`, the default, send_offsets_to_transaction() has hung for minutes after a broker's
        # restart. Without it a client never comes back from an answer that names no broker at all, as a
        # fenced one gives it: its owner has to make another one when all brokers are gone.
        "metadata.recovery.strategy": "none",
        # The wait between tries while the previous transaction is still being written out.
        "retry.backoff.ms": 20,
        "linger.ms": 0,
        "message.max.bytes": MAX_DEAD_LETTER_BYTES,
        # One record may carry any number of images; what is in flight is bounded before it gets here.
        "queue.buffering.max.messages": 0,
    }


def make_consumer(config: Config) -> Consumer:
    """A consumer that logs through `logging`."""
    return Consumer(config, logger=logger)


def make_producer(config: Config) -> Producer:
    """A producer that logs through `logging`."""
    return Producer(config, logger=logger)


def leave_group(consumer: Consumer) -> bool:
    """Leaves the consumer group and closes the consumer; its revocation callback runs first.

    Returns:
        Whether the consumer is closed. If not, a thread of its own is still at that, callbacks and all: the
        process must end without waiting for it.

    close() alone does not wait until the broker is told: with several members ending at once on busy cores
    none of the messages was sent, and their partitions stood still for the whole session time-out.
    """
    try:
        consumer.unsubscribe()
        told_by = time.monotonic() + LEAVE_S
        while time.monotonic() < told_by:
            consumer.poll(LEAVE_S / 10)
    except KafkaException as error:
        # After a fatal error there is no membership left to end.
        logger.warning("leaving the group: %s", error)
    closing = threading.Thread(target=consumer.close, daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    if closing.is_alive():
        logger.warning("Kafka's client does not let go of the consumer; it ends with the process")
    return not closing.is_alive()


def is_transient(error: KafkaError) -> bool:
    """Whether waiting helps: the cluster is away, or is choosing a leader or coordinator.

    `KafkaError.retriable()` does not tell: it is false for every error that is not from a transaction.
    """
    return error.code() in _TRANSIENT


def headers_of(message: Message) -> Headers:
    """A record's headers; none where a header's name is not UTF-8.

    Any C client can send such a name. The first call then raises SystemError, and a second one may return a
    list whose items crash the process, so there is no second one.
    """
    try:
        return cast("Headers", message.headers() or ())
    except SystemError:
        return ()


def record_time(message: Message) -> datetime:
    """A record's timestamp; one that no calendar holds becomes its first or last day.

    A publisher may set any 64-bit number.
    """
    _, milliseconds = message.timestamp()
    return datetime.fromtimestamp(min(max(milliseconds, 0), _LAST_MS) / 1000, UTC)


def make_admin(settings: KafkaSettings) -> AdminClient:
    """An admin client."""
    return AdminClient(client_config(settings), logger=logger)


def require_broker(settings: KafkaSettings) -> None:
    """Says at once that nobody listens, where librdkafka would go on trying until its time is over.

    Raises:
        KafkaUnavailable: every bootstrap server refuses a connection outright.
    """
    servers = str(client_config(settings)["bootstrap.servers"]).split(",")
    if all(_refuses(server) for server in servers):
        raise KafkaUnavailable(settings)


def patiently(settings: KafkaSettings, ask: Callable[[], T], timeout_s: float) -> T:
    """Asks again while one broker of several is away and the others take its place.

    Raises:
        KafkaUnavailable: none is left.
        KafkaException: another reason than that, or `timeout_s` are over.
    """
    give_up_at = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except KafkaException as error:
            # A partition whose leader has died is unknown to the client for a moment.
            unknown = error.args[0].code() == KafkaError._UNKNOWN_PARTITION
            if not (unknown or is_transient(error.args[0])) or time.monotonic() >= give_up_at:
                raise
        require_broker(settings)
        time.sleep(AGAIN_S)


def require_topics(settings: KafkaSettings, topics: Iterable[str], timeout_s: float = 10.0) -> dict[str, str]:
    """Checks that a broker answers and the topics exist; returns each topic's id.

    Raises:
        KafkaUnavailable: no broker answered within `timeout_s`.
        TopicNotFound: a topic does not exist.
    """
    names = list(topics)
    ask_s = min(ASK_S, timeout_s)

    def describe() -> dict[str, str]:
        # Anew each time: a client may wait in vain for the controller that it knew when it began.
        admin = make_admin(settings)
        futures = admin.describe_topics(TopicCollection(names), request_timeout=ask_s)
        return {name: str(futures[name].result(ask_s + 1).topic_id) for name in names}

    try:
        require_broker(settings)
        return patiently(settings, describe, timeout_s)
    except TimeoutError:
        raise KafkaUnavailable(settings) from None
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            existing = make_admin(settings).list_topics(timeout=timeout_s).topics
            missing = [name for name in names if name not in existing]
            raise TopicNotFound(missing[0] if missing else names[0]) from None
        if reason.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise KafkaUnavailable(settings) from None
        raise


def partition_counts(
    settings: KafkaSettings, topics: Iterable[str], timeout_s: float = 10.0
) -> dict[str, int]:
    """How many partitions each topic has; the topics exist (`require_topics`)."""
    known = make_admin(settings).list_topics(timeout=timeout_s).topics
    return {name: len(known[name].partitions) for name in topics}


def _refuses(server: str) -> bool:
    host, _, port = server.strip().rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False  # a name that does not resolve yet, say: for librdkafka to judge
    return False


def _group_protocol(settings: KafkaSettings) -> Config:
    if settings.group_protocol == "consumer":
        # Session and heartbeat times live on the broker in this protocol; the client refuses them.
        return {"group.protocol": "consumer"}
    return {
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": settings.session_timeout_ms,
        # Members learn of a rebalance by their next heartbeat.
        "heartbeat.interval.ms": min(1_000, settings.session_timeout_ms // 3),
    }


def log_client_error(error: KafkaError) -> None:
    """Writes what a client reports about its connections."""
    logger.warning("Kafka client: %s", error.str())


def _read_properties(path: str) -> Config:
    if not path:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingError(f"KAFKA_CONFIG_FILE: cannot read {path!r}: {error.strerror}") from None
    properties: Config = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"KAFKA_CONFIG_FILE: {path}:{number} is not of the form name=value")
        properties[name.strip()] = value.strip()
    return properties
