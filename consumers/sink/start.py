"""Puts a sink together, once everything it needs is known to be there."""

import contextlib
import logging
from typing import Any

from confluent_kafka import KafkaError

from consumers.sink.assignment import Assignment
from consumers.sink.batch import Batch
from consumers.sink.dead_letters import DeadLetters
from consumers.sink.partitions import Partitions
from consumers.sink.sink import Sink
from consumers.sink.store import Store, Topic
from infra.kafka import Config, consumer_config, make_consumer, require_topics
from infra.migrations import require_migrated
from infra.postgres import connect
from infra.settings import DatabaseSettings, KafkaSettings, SinkSettings

logger = logging.getLogger(__name__)

TOPIC_ANSWER_S = 5.0
"""How long the broker may take to tell a topic's id: rebalances wait for it."""


def make_sink(kafka: KafkaSettings, database: DatabaseSettings, settings: SinkSettings) -> Sink:
    """A sink that is ready to run. From here on an outage is waited out; before it, it is an error.

    Raises:
        DatabaseUnavailable, DatabaseNotMigrated, KafkaUnavailable, TopicNotFound: what to do about it is in
            the message.
    """
    with contextlib.closing(connect(database, "analysis sink")) as connection:
        require_migrated(connection)
    name = kafka.results_topic
    topic = Topic(name, require_topics(kafka, [name, kafka.dead_letters_topic])[name])
    store = Store(database, Partitions(settings.retention_days))
    batch = Batch()
    consumer = make_consumer(sink_consumer_config(kafka, settings.group_id))
    assignment = Assignment(
        consumer,
        topic,
        topic_id=lambda: require_topics(kafka, [name], TOPIC_ANSWER_S)[name],
        stored_offsets=store.offsets,
        on_drop=batch.drop,
    )
    return Sink(settings, consumer, assignment, batch, store, DeadLetters(kafka))


def sink_consumer_config(kafka: KafkaSettings, group_id: str) -> Config:
    """A consumer whose offsets come from PostgreSQL.

    With any other `auto.offset.reset` it would go on silently at some other place where PostgreSQL's is
    not in the log. Its queue is kept small because a batch is all that is needed ahead.
    """
    return {
        **consumer_config(kafka, group_id),
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": 16_384,
        "on_commit": _log_commit,
    }


def _log_commit(error: KafkaError | None, _partitions: list[Any]) -> None:
    if error is not None:
        logger.debug("the group's offsets were not committed: %s", error.str())
