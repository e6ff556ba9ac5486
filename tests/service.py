"""The service as its users run it: processes started from the command line, against the tests' stack."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from infra import kafka, topics
from infra.lifecycle import READY_FILE
from infra.s3 import make_client
from infra.settings import DatabaseSettings, KafkaSettings, S3Settings, TopicSettings, load
from schemas.codec import decode_result
from schemas.messages import Result
from tests.stack import unique

PROJECT = Path(__file__).parents[1]
START_S = 60.0


def eventually(check: Callable[[], Any], timeout_s: float = 30.0, interval_s: float = 0.1) -> Any:
    """Waits until `check` returns something true, and returns it; fails with what it returned last."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"still {found!r} after {timeout_s} s"
        time.sleep(interval_s)
    return found


@dataclass
class Service:
    """Topics of one test's own, and the environment that leads every process to them."""

    environment: dict[str, str]
    folder: Path
    started: int = field(default=0)
    program: str = "analysis"
    """The module that is run as the command line."""

    @property
    def kafka(self) -> KafkaSettings:
        """Kafka, with this test's topics."""
        return load(KafkaSettings, {**os.environ, **self.environment})

    @contextlib.contextmanager
    def run(self, *arguments: str, **environment: str) -> Iterator["Running"]:
        """Runs `analysis …` until the block is left; whatever still runs then is killed.

        The log is shown when the block raises.
        """
        self.started += 1
        log = self.folder / f"{arguments[0]}-{self.started}.log"
        ready = self.folder / f"{arguments[0]}-{self.started}.ready"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", self.program, *arguments],
                cwd=PROJECT,
                env={**os.environ, **self.environment, **environment, READY_FILE: str(ready)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(process, log, ready)
        try:
            yield running
        except BaseException:
            print(f"--- {log.name}\n{running.log_text()[-6000:]}")
            raise
        finally:
            running.end()

    def publish(
        self,
        values: Sequence[bytes | None],
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Puts records on the images topic, on one partition or on all in turn, and waits for them."""
        producer = kafka.make_producer(kafka.producer_config(self.kafka))
        count = topics_partitions(self.kafka)
        for number, value in enumerate(values):
            target = number % count if partition is None else partition
            producer.produce(
                self.kafka.images_topic, value=value, partition=target, headers=list(headers) or None
            )
            producer.poll(0)
        assert producer.flush(30) == 0

    @cached_property
    def _store(self) -> Any:
        return make_client(load(S3Settings))

    def request(self, image: bytes, name: str) -> bytes:
        """Stores an image and returns a request for it, whose id is `name`."""
        key = f"{self.kafka.images_topic}/{name}"
        self._store.put_object(Bucket="uploads", Key=key, Body=image)
        return request(name, key)

    def results(self) -> list[Result]:
        """Every committed result, by partition and in order."""
        return [decode_result(message.value() or b"") for message in self.records(self.kafka.results_topic)]

    def dead_letters(self) -> list[Message]:
        """Every committed dead letter."""
        return self.records(self.kafka.dead_letters_topic)

    def records(self, topic: str) -> list[Message]:
        """Every committed record of a topic, by partition and in order."""
        config = kafka.consumer_config(self.kafka, unique("reader")) | {"enable.partition.eof": True}
        consumer = kafka.make_consumer(config)
        try:
            return list(_read_to_the_end(consumer, topic))
        finally:
            consumer.close()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What a query returns; `{topic}` in it is a parameter for this test's images topic."""
        import psycopg2

        with (
            contextlib.closing(psycopg2.connect(load(DatabaseSettings).url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, (self.kafka.images_topic, *parameters))
            return list(cursor.fetchall())

    def row_count(self) -> int:
        """How many results of this test are stored."""
        return int(self.rows("SELECT count(*) FROM results WHERE source_topic = %s")[0][0])


@dataclass
class Running:
    """A process of the service."""

    process: "subprocess.Popen[bytes]"
    log: Path
    ready: Path

    def wait_ready(self, timeout_s: float = START_S) -> "Running":
        """Waits until the process says that it is ready."""

        def check() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            return self.ready.exists()

        eventually(check, timeout_s)
        return self

    def workers(self) -> list[psutil.Process]:
        """The analyzer's worker processes, oldest first."""
        workers = []
        for child in psutil.Process(self.process.pid).children():
            # One that has just died has no command line any more.
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    workers.append(child)
        return sorted(workers, key=lambda child: child.create_time())

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def log_text(self) -> str:
        """What the process has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """Kills what is left of the process and its children."""
        if self.process.poll() is None:
            family = [*psutil.Process(self.process.pid).children(recursive=True)]
            self.process.kill()
            self.process.wait(10)
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


def request(name: str, key: str, bucket: str = "uploads", **more: Any) -> bytes:
    """A request in our own format."""
    image = {"bucket": bucket, "key": key}
    return json.dumps({"version": 1, "request_id": name, "image": image, **more}).encode()


def topics_partitions(settings: KafkaSettings) -> int:
    """Partitions of the images topic."""
    return kafka.partition_counts(settings, [settings.images_topic])[settings.images_topic]


@contextlib.contextmanager
def new_service(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A service with topics of its own; the stack must be running."""
    name = unique("t")
    service = Service(
        {
            "KAFKA_IMAGES_TOPIC": f"{name}.images",
            "KAFKA_RESULTS_TOPIC": f"{name}.results",
            "KAFKA_DEAD_LETTERS_TOPIC": f"{name}.dead-letters",
            "SINK_GROUP_ID": f"{name}.sink",
            "SINK_BATCH_WAIT_MS": "50",
            **(environment or {}),
        },
        folder,
    )
    # As many copies as the stack has brokers for.
    topics.create(service.kafka, msgspec.structs.replace(load(TopicSettings), partitions=4))
    yield service


def _read_to_the_end(consumer: Consumer, topic: str) -> Iterator[Message]:
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    found: dict[int, list[Message]] = {number: [] for number in range(count)}
    consumer.assign([TopicPartition(topic, number, 0) for number in range(count)])
    ended: set[int] = set()
    deadline = time.monotonic() + 30
    while len(ended) < count:
        assert time.monotonic() < deadline, f"only partitions {ended} of {topic} were read to their end"
        message = consumer.poll(0.5)
        if message is None:
            continue
        partition = message.partition()
        assert partition is not None
        error = message.error()
        if error is None:
            found[partition].append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ended.add(partition)
    for messages in found.values():
        yield from messages
