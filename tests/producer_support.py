"""For tests of the producer side: topics of a test's own, commands as processes, and a stand-in analyzer."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Message, Producer

from infra import topics
from infra.kafka import make_producer, producer_config
from infra.settings import KafkaSettings, TopicSettings
from producers.reader import TopicReader
from schemas.codec import decode_request, encode
from schemas.errors import ErrorCode
from schemas.headers import result_headers
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    Label,
    ModuleIdentity,
    Request,
    Result,
    SourcePosition,
)
from tests.stack import unique

PROJECT = Path(__file__).parents[1]
POLL_S = 0.1

Answer = Callable[[Request], Result | None]


def own_topics(kafka: KafkaSettings, partitions: int = 4) -> KafkaSettings:
    """The same broker with new topics that no other test uses."""
    own = msgspec.structs.replace(
        kafka,
        images_topic=unique("images"),
        results_topic=unique("results"),
        dead_letters_topic=unique("dead"),
    )
    topics.create(own, TopicSettings(partitions=partitions))
    return own


def environment(kafka: KafkaSettings, state: Path) -> dict[str, str]:
    """What leads a command to these topics, and its journal into `state`."""
    return {
        **os.environ,
        "KAFKA_IMAGES_TOPIC": kafka.images_topic,
        "KAFKA_RESULTS_TOPIC": kafka.results_topic,
        "KAFKA_DEAD_LETTERS_TOPIC": kafka.dead_letters_topic,
        "XDG_STATE_HOME": str(state),
    }


def command(*arguments: str) -> list[str]:
    """The command line as a user runs it."""
    return [sys.executable, "-m", "analysis", *arguments]


def run(env: dict[str, str], *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=PROJECT,
        env=env,
        input=given,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=90,
        check=False,
    )


def eventually(check: Callable[[], Any], timeout_s: float = 30.0) -> None:
    """Waits until `check` returns something true."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"still {found!r} after {timeout_s} s"
        time.sleep(POLL_S)


def lines(output: str) -> list[dict[str, Any]]:
    """The objects of NDJSON."""
    return [msgspec.json.decode(line) for line in output.splitlines()]


def records(kafka: KafkaSettings, topic: str) -> list[Message]:
    """Every committed record of a topic."""
    reader = TopicReader(kafka, (topic,))
    reader.open("beginning")
    found = []
    try:
        while not reader.caught_up:
            message = reader.poll(POLL_S)
            if message is not None:
                found.append(message)
    finally:
        reader.close()
    return found


def requests(kafka: KafkaSettings) -> list[Request]:
    """Every request on the images topic."""
    return [decode_request(message.value() or b"") for message in records(kafka, kafka.images_topic)]


def ok(request: Request, label: str = "face", score: float = 0.9, module: str = "stand-in") -> Result:
    """A result with one detection."""
    detection = Detection(Box(1, 2, 3, 4), (Label(label, score),))
    return msgspec.structs.replace(_bare(request, module), detections=(detection,))


def failed(request: Request, module: str = "stand-in") -> Result:
    """A failed result."""
    error = Failure(ErrorCode.IMAGE_CORRUPT, "the image is truncated")
    return msgspec.structs.replace(_bare(request, module), status="failed", error=error)


def _bare(request: Request, module: str) -> Result:
    now = datetime.now(UTC)
    return Result(
        request_id=request.request_id,
        status="ok",
        module=ModuleIdentity(module, "1"),
        image=AnalyzedImage(bucket=request.image.bucket, key=request.image.key),
        source=SourcePosition("id", "images", 0, 0, 0, now),
        analyzed_at=now,
        attributes=request.attributes,
    )


def publish(kafka: KafkaSettings, *results: Result) -> None:
    """Puts results on the results topic and waits until they are there."""
    producer = make_producer(producer_config(kafka))
    for result in results:
        produce(kafka, producer, result)
    assert producer.flush(30) == 0


def produce(kafka: KafkaSettings, producer: Producer, result: Result) -> None:
    """Hands one result to a producer."""
    headers: Any = result_headers(result)
    producer.produce(kafka.results_topic, encode(result), result.request_id, headers=headers)


@contextlib.contextmanager
def answering(kafka: KafkaSettings, answer: Answer) -> Iterator[None]:
    """A stand-in for the analyzer: answers every request that comes while the block runs."""
    stopping = threading.Event()
    reader = TopicReader(kafka, (kafka.images_topic,))
    reader.open("beginning")

    def serve() -> None:
        producer = make_producer(producer_config(kafka))
        while not stopping.is_set():
            message = reader.poll(POLL_S)
            result = None if message is None else answer(decode_request(message.value() or b""))
            if result is not None:
                produce(kafka, producer, result)
            producer.poll(0)
        producer.flush(10)
        reader.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)
