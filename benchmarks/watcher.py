"""Counts a run's results as they are committed: records of a topic, or rows of a table."""

import contextlib
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec
from confluent_kafka import Message, TopicPartition
from psycopg2 import sql

from benchmarks.errors import ResultsWrong
from infra import kafka
from infra.postgres import connect
from infra.settings import DatabaseSettings, KafkaSettings

STEP_S = 0.05
"""How long one look at results takes at most: short beside a run, and rare enough to cost next to nothing."""
ROWS_STEP_S = 0.2
"""The same for rows, where each look has PostgreSQL count them."""
MOST_AT_ONCE = 10_000


class Answer(msgspec.Struct, frozen=True):
    """What is read of a result."""

    request_id: str
    status: str


class Watcher(ABC):
    """One look at a time."""

    @abstractmethod
    def count(self) -> int:
        """Different requests that have a committed result by now; takes a moment.

        Raises:
            ResultsWrong: a result says `failed`.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the connection."""


class TopicWatcher(Watcher):
    """Reads the results topic as any subscriber would: what is committed, from the beginning.

    Args:
        on_result: called with each request's id when its result is seen.
    """

    def __init__(
        self, settings: KafkaSettings, partitions: int, on_result: Callable[[str], None] = lambda _: None
    ) -> None:
        config = kafka.consumer_config(settings, f"bench-{uuid.uuid4().hex[:12]}")
        self._consumer = kafka.make_consumer(config | {"fetch.wait.max.ms": 20})
        self._consumer.assign(
            [TopicPartition(settings.results_topic, number, 0) for number in range(partitions)]
        )
        self._decoder = msgspec.json.Decoder(Answer)
        self._seen: set[str] = set()
        self._on_result = on_result

    def count(self) -> int:
        """Waits for a result, and reads what else is there."""
        first = self._consumer.poll(STEP_S)
        if first is not None:
            for message in (first, *self._consumer.consume(MOST_AT_ONCE, 0)):
                self._take(message)
        return len(self._seen)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if kafka.is_transient(error):
                return
            raise ResultsWrong(f"the results cannot be read: {error.str()}")
        answer = self._decoder.decode(message.value() or b"")
        if answer.status != "ok":
            raise ResultsWrong(f"request {answer.request_id}: {(message.value() or b'').decode()[:500]}")
        self._seen.add(answer.request_id)
        self._on_result(answer.request_id)

    def close(self) -> None:
        """Closes the consumer."""
        self._consumer.close()


class RowsWatcher(Watcher):
    """Counts the rows of a table, which need not exist yet."""

    def __init__(self, settings: DatabaseSettings, table: str, requests: str = "") -> None:
        """`requests` is the images topic of the run, where the table holds several runs' rows."""
        self._connection = connect(settings, "benchmarks")
        self._connection.autocommit = True
        self._table = table
        self._query = sql.SQL("SELECT count(DISTINCT request_id) FROM {}").format(sql.Identifier(table))
        if requests:
            condition = " WHERE status = 'ok' AND source_topic = {}"
            self._query += sql.SQL(condition).format(sql.Literal(requests))

    def count(self) -> int:
        """Asks once, and waits for the rest of the moment."""
        time.sleep(ROWS_STEP_S)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self._table,))
            exists = cursor.fetchone()
            if not exists or not exists[0]:
                return 0
            cursor.execute(self._query)
            row = cursor.fetchone()
            return int(row[0]) if row else 0

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(Exception):
            self._connection.close()
