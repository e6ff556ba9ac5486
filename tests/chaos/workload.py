"""A stream of requests of all kinds, and the oracle that knows their answers."""

import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaError, Message

from infra.kafka import make_producer, producer_config
from schemas.errors import ErrorCode
from tests import images
from tests.chaos.history import Expectation
from tests.service import Service, request

COLOURS = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}
CRASHING_WIDTH, HANGING_WIDTH = 333, 334
TIMEOUT_S = 8
MAX_ATTRIBUTES_CHARS = 900_000

MODULE = f"""
import ctypes
import re
import time
from modules.dummy import module as dummy

class Chaos(dummy.Dummy):
    name = "chaos"
    decode_size_px = None
    max_batch = 8
    timeout_s = {TIMEOUT_S}

    def preprocess(self, image):
        return image.width, super().preprocess(image)

    def infer(self, batch):
        time.sleep(0.002 * len(batch))
        for width, _ in batch:
            if width == {CRASHING_WIDTH}:
                ctypes.string_at(0)
            if width == {HANGING_WIDTH}:
                re.match(r"(a+)+$", "a" * 60 + "b")  # holds Python's lock throughout
        return [found for _, found in batch]
"""
"""Finds the colour of a rectangle; images of one width crash the process, those of another hang it."""

POISONS = {
    "crashes": (CRASHING_WIDTH, ErrorCode.MODULE_CRASHED),
    "hangs": (HANGING_WIDTH, ErrorCode.MODULE_TIMEOUT),
}

OK_SHARE = 0.93


def write_module(folder: Path) -> Path:
    """The module's folder."""
    made = folder / "chaos"
    made.mkdir(exist_ok=True)
    (made / "module.py").write_text(MODULE)
    return made


class Workload:
    """Publishes requests at a steady rate until it is told to stop; the same seed asks for the same.

    Args:
        rate: requests a second.
        least: requests that are published at least.
    """

    def __init__(self, service: Service, seed: int, rate: float, least: int, partitions: int) -> None:
        self.expected: dict[bytes, tuple[str, Expectation]] = {}
        """By a record's value: the id that its answer carries, and the oracle's word."""
        self._repeatable: list[bytes] = []
        self.acknowledged: list[tuple[int, int]] = []
        """Partition and offset of what Kafka says it has stored."""
        self._service = service
        self._random = random.Random(f"workload {seed}")
        self._rate = rate
        self._least = least
        self._partitions = partitions
        self._poisons: deque[str] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._failure: BaseException | None = None
        self._good: Mapping[str, bytes] = {
            name: images.jpeg(colour=colour) for name, colour in COLOURS.items()
        }

    def start(self) -> None:
        """Stores the images and begins to publish."""
        for name, data in self._good.items():
            self._service.request(data, name)
        for name, (width, _) in POISONS.items():
            self._service.request(images.jpeg(size=(width, 240)), name)
        self._service.request(images.jpeg()[:200], "corrupt")
        self._thread.start()

    def add_poison(self, name: str) -> None:
        """Has the next request ask for one of `POISONS`."""
        self._poisons.append(name)

    def finish(self) -> None:
        """Waits until enough is published, and all of it acknowledged."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._publish()
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self._failure = error

    def _publish(self) -> None:
        # The client goes on trying for as long as it takes: what is published is not what is tested.
        config = producer_config(self._service.kafka) | {"message.timeout.ms": 0}
        producer = make_producer(config)
        started, number = time.monotonic(), 0
        while number < self._least or not self._stopping.is_set():
            value = self._next(number)
            producer.produce(
                self._service.kafka.images_topic,
                value=value,
                partition=self._random.randrange(self._partitions),
                on_delivery=self._delivered,
            )
            producer.poll(0)
            number += 1
            if not self._stopping.is_set():
                time.sleep(max(0.0, started + number / self._rate - time.monotonic()))
        assert producer.flush(120) == 0

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        self.acknowledged.append((int(message.partition() or 0), int(message.offset() or 0)))

    def _next(self, number: int) -> bytes:
        name, expected, key = f"r{number}", None, ""
        if self._poisons:
            key = self._poisons.popleft()
            expected = Expectation("failed", POISONS[key][1])
        else:
            drawn = self._random.random()
            if drawn < OK_SHARE:
                key = self._random.choice(list(COLOURS))
                expected = Expectation("ok", key)
            elif drawn < 0.95:
                key, expected = "missing", Expectation("failed", ErrorCode.OBJECT_NOT_FOUND)
            elif drawn < 0.97:
                key, expected = "corrupt", Expectation("failed", ErrorCode.IMAGE_CORRUPT)
            elif drawn < 0.985 and self._repeatable:
                # The same request once more is a record of its own.
                return self._random.choice(self._repeatable)
            elif drawn < 0.99:
                return self._too_large(name)
        if expected is None:
            value = f"no request: {name}".encode()
            self.expected[value] = name, Expectation("dead", ErrorCode.MESSAGE_NOT_JSON)
        else:
            value = request(name, f"{self._service.kafka.images_topic}/{key}")
            self.expected[value] = name, expected
            if expected.kind == "ok":
                self._repeatable.append(value)
        return value

    def _too_large(self, name: str) -> bytes:
        attributes = {"a": "x" * MAX_ATTRIBUTES_CHARS}
        value = request(name, f"{self._service.kafka.images_topic}/missing", attributes=attributes)
        self.expected[value] = name, Expectation("dead", ErrorCode.MESSAGE_INVALID)
        return value
