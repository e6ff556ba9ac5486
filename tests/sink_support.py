"""A database, topics and a group of one test's own, and results to send through them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from confluent_kafka import Consumer, Message
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]
from psycopg2 import sql

from consumers.sink.start import make_sink
from infra.kafka import client_config, make_admin, make_producer, producer_config, require_topics
from infra.migrations import migrate
from infra.postgres import connect, transaction
from infra.settings import DatabaseSettings, KafkaSettings, SinkSettings
from schemas.codec import encode
from schemas.errors import AnalysisError
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Label,
    ModuleIdentity,
    Result,
    SourcePosition,
)
from tests.stack import RunningStack, unique

PARTITIONS = 4
PATIENCE_S = 45.0


def make_result(offset: int = 0, **changes: Any) -> Result:
    """A result of one detection, told from others by the offset of its request."""
    plain = Result(
        request_id=f"request-{offset}",
        status="ok",
        module=ModuleIdentity("dummy", "1"),
        image=AnalyzedImage(bucket="images", key=f"{offset}.jpg"),
        detections=(Detection(Box(1.5, 2, 30, 40), (Label("cat", 0.9),)),),
        source=make_source(offset),
        analyzed_at=datetime.now(UTC),
    )
    return msgspec.structs.replace(plain, **changes)


def make_source(offset: int, timestamp: datetime | None = None) -> SourcePosition:
    """Where a request lay."""
    return SourcePosition("a-topic-id", "images", 0, offset, 0, timestamp or datetime.now(UTC))


def eventually(what: str, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Waits until something holds, or fails with what it waited for."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s in vain: {what}"
        time.sleep(0.05)


class Database:
    """A migrated database of one test's own."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.settings = settings

    def query(self, statement: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Runs one statement in a transaction of its own, and returns its rows."""
        connection = connect(self.settings, "tests")
        with contextlib.closing(connection), transaction(connection) as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def offsets(self) -> dict[int, int]:
        """What the sink says it has stored, by partition."""
        return dict(self.query("SELECT partition_id, next_offset FROM sink_offsets"))

    def stored(self) -> list[int]:
        """The source offset of every result row, in order; doubles would show."""
        rows = self.query("SELECT source_offset FROM results ORDER BY source_offset")
        return [offset for (offset,) in rows]


@contextlib.contextmanager
def fresh_database(server: DatabaseSettings) -> Iterator[Database]:
    """A new database beside the one that `server` names, migrated; dropped at the end."""
    name = unique("sink")
    _administer(server, "CREATE DATABASE {}", name)
    try:
        settings = DatabaseSettings(url=urlunsplit(urlsplit(server.url)._replace(path=f"/{name}")))
        migrate(settings)
        yield Database(settings)
    finally:
        _administer(server, "DROP DATABASE {} WITH (FORCE)", name)


def _administer(server: DatabaseSettings, statement: str, name: str) -> None:
    with contextlib.closing(connect(server, "tests")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))


class World:
    """Everything that a sink needs, used by no other test."""

    def __init__(self, kafka: KafkaSettings, database: Database) -> None:
        self.kafka = kafka
        self.database = database
        self.settings = SinkSettings(group_id=unique("sink"), batch_rows=200, batch_wait_ms=50)
        self._producer = make_producer(producer_config(kafka))

    def create_topics(self, partitions: int = PARTITIONS) -> None:
        """Makes the results and dead-letter topics, and waits until every broker knows them."""
        topics = [
            NewTopic(self.kafka.results_topic, partitions, 1),
            NewTopic(self.kafka.dead_letters_topic, 1, 1),
        ]
        admin = make_admin(self.kafka)
        for future in admin.create_topics(topics).values():
            future.result(30)
        eventually("the topics are known", self._topics_known)

    def delete_topics(self) -> None:
        """Deletes both topics."""
        names = [self.kafka.results_topic, self.kafka.dead_letters_topic]
        admin = make_admin(self.kafka)
        for future in admin.delete_topics(names).values():
            future.result(30)

    def publish(self, results: Iterable[Result], partition: int = 0) -> None:
        """Sends results to one partition."""
        self.publish_raw((encode(result) for result in results), partition)

    def publish_raw(
        self, values: Iterable[bytes | None], partition: int = 0, key: bytes | None = None
    ) -> None:
        """Sends any bytes to one partition of the results topic."""
        for value in values:
            self._producer.produce(
                self.kafka.results_topic, value, key, partition, headers=[("original", b"header")]
            )
        assert self._producer.flush(PATIENCE_S) == 0

    def dead_letters(self, count: int) -> list[Message]:
        """The dead letters, of which there must be `count`, and one second later no more."""
        consumer = Consumer(
            {**client_config(self.kafka), "group.id": unique("reader"), "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([self.kafka.dead_letters_topic])
        found: list[Message] = []
        try:
            eventually(f"{count} dead letters", lambda: _read(consumer, found) >= count)
            found += consumer.consume(1, 1.0)
        finally:
            consumer.close()
        assert len(found) == count
        return found

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Runs a sink in a thread; what it raises is raised at the end."""
        stopping, ready, failures = threading.Event(), threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                sink.run(stopping, ready.set)
            except BaseException as error:  # noqa: BLE001 - raised again by the test's thread
                failures.append(error)
                ready.set()

        sink = make_sink(self.kafka, self.database.settings, self.settings)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert ready.wait(PATIENCE_S)
            yield
        finally:
            stopping.set()
            thread.join(PATIENCE_S)
        assert not thread.is_alive()
        if failures:
            raise failures[0]

    def environment(self) -> dict[str, str]:
        """The variables that lead an `analysis sink` here."""
        return {
            **os.environ,
            "KAFKA_RESULTS_TOPIC": self.kafka.results_topic,
            "KAFKA_DEAD_LETTERS_TOPIC": self.kafka.dead_letters_topic,
            "KAFKA_GROUP_PROTOCOL": self.kafka.group_protocol,
            "KAFKA_SESSION_TIMEOUT_MS": str(self.kafka.session_timeout_ms),
            "DATABASE_URL": self.database.settings.url,
            "SINK_GROUP_ID": self.settings.group_id,
            "SINK_BATCH_ROWS": str(self.settings.batch_rows),
            "SINK_BATCH_WAIT_MS": str(self.settings.batch_wait_ms),
        }

    def _topics_known(self) -> bool:
        with contextlib.suppress(AnalysisError):
            require_topics(self.kafka, [self.kafka.results_topic, self.kafka.dead_letters_topic])
            return True
        return False


def _read(consumer: Consumer, found: list[Message]) -> int:
    found += [message for message in consumer.consume(100, 0.2) if message.error() is None]
    return len(found)


@contextlib.contextmanager
def sink_world(
    stack: RunningStack, database: Database | None = None, partitions: int = PARTITIONS, **kafka_changes: Any
) -> Iterator[World]:
    """Topics and, where none is given, a database for one test."""
    kafka = msgspec.structs.replace(
        stack.kafka,
        results_topic=unique("results"),
        dead_letters_topic=unique("dead"),
        session_timeout_ms=6000,
        **kafka_changes,
    )
    with contextlib.ExitStack() as cleanup:
        if database is None:
            database = cleanup.enter_context(fresh_database(stack.database))
        world = World(kafka, database)
        world.create_topics(partitions)
        cleanup.callback(world.delete_topics)
        yield world


class SinkProcess:
    """`analysis sink` as a process of its own."""

    def __init__(self, world: World, folder: Path) -> None:
        self.log = folder / f"{unique('sink')}.log"
        self._ready = self.log.with_suffix(".ready")
        environment = {**world.environment(), "ANALYSIS_READY_FILE": str(self._ready)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "analysis", "sink"],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
            )

    def await_ready(self) -> None:
        """Waits until the process says that it is ready."""
        eventually("the sink is ready", lambda: self._ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def end(self, number: signal.Signals) -> int:
        """Sends a signal and waits for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def sink_process(world: World, folder: Path) -> Iterator[SinkProcess]:
    """Starts `analysis sink`; kills it at the end if it still runs."""
    started = SinkProcess(world, folder)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait(PATIENCE_S)
