"""A worker's pipeline, given images from memory in place of Kafka and the object store."""

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from consumers.analyzer.account import Account
from consumers.analyzer.answers import Answers
from consumers.analyzer.pipeline import Pipeline
from consumers.analyzer.store import OpenObject
from consumers.analyzer.window import Found, PartitionWindow, Record, Task
from infra.settings import AnalyzerSettings
from modules.contract import Module
from schemas.errors import AnalysisError
from schemas.messages import VERSION, Detection, ImageReference, ModuleIdentity, RecordPosition, Request

BUCKET = "bench"
LOOK_S = 0.2
"""How often the feeding thread looks whether the pipeline still works."""
FETCHED_AHEAD = 8
"""Images that wait before the pipeline, so that it does not wait for the feeding thread."""
LEAST_BATCHES = 2
"""Full batches' worth of images that must come through, however short the time: the first is not counted."""


class FullLoad(msgspec.Struct, frozen=True):
    """What a pipeline did that was never short of images."""

    finished_s: list[float]
    """When each image was answered, in seconds since the start."""
    fed_s: float
    """When the last image was given to it."""
    mean_batch: float


class Feeder:
    """Feeds one pipeline of its own and notes its answers; for one thread.

    Args:
        files: contents by name; they go round and round.
        settings: with `image_threads` and `max_batch` above zero.
    """

    def __init__(self, module: Module[Any], files: Mapping[str, bytes], settings: AnalyzerSettings) -> None:
        self._names = list(files)
        self._settings = settings
        self._account = Account()
        self._answers = _NotedAnswers(ModuleIdentity(module.name, module.version))
        self._pipeline = Pipeline(
            module,
            MemoryStore(files),
            self._answers,
            settings,
            settings.image_threads,
            self._account,
            threading.Event(),
        )
        self._submitted = 0
        self._looked_at = 0.0

    def start(self) -> None:
        """Starts the pipeline's threads; they end with the process."""
        self._pipeline.start()

    def at_full_load(self, seconds: float) -> FullLoad:
        """Keeps every queue filled for `seconds`, and until a few batches have come through.

        Raises:
            AnalysisError: an image failed, or the device has no memory for a single one.
        """
        # What fills every stage: a batch on the device, one submitted ahead, one that is being filled.
        most = FETCHED_AHEAD + 4 * self._settings.image_threads + 3 * self._settings.max_batch
        least = LEAST_BATCHES * self._settings.max_batch
        started = time.monotonic()
        while time.monotonic() - started < seconds or self._answers.count < least:
            answered = self._answers.count
            while self._submitted - answered < most:
                self._submit(time.monotonic())
            self._wait(answered)
        fed_s = time.monotonic() - started
        self._drain()
        finished_s = [at - started for at in self._answers.finished]
        return FullLoad(finished_s, fed_s, self._pipeline.report().mean_batch)

    def at_rate(self, images_per_s: float, seconds: float, seed: int) -> list[float]:
        """Lets images arrive at random moments; returns the milliseconds from each one's to its answer.

        Raises:
            AnalysisError: as above.
        """
        started = time.monotonic()
        for at_s in arrivals(images_per_s, seconds, seed):
            while (early_s := started + at_s - time.monotonic()) > 0:
                time.sleep(min(LOOK_S, early_s))
                self._look()
            self._submit(started + at_s)
        self._drain()
        return self._answers.latencies_ms

    def _submit(self, arrived_at: float) -> None:
        name = self._names[self._submitted % len(self._names)]
        self._submitted += 1
        self._pipeline.submit(record(name, self._submitted, arrived_at).tasks)

    def _drain(self) -> None:
        while (answered := self._answers.count) < self._submitted:
            self._wait(answered)

    def _wait(self, answered: int) -> None:
        self._answers.wait_beyond(answered, LOOK_S)
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._pipeline.check()
        if self._answers.failure is not None:
            raise self._answers.failure


class MemoryStore:
    """Stands in for the object store."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def open(self, _image: ImageReference, key: str) -> OpenObject:
        """As the object store's."""
        return _MemoryObject(self._files[key])


class _MemoryObject:
    etag: str | None = None
    version_id: str | None = None

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.size_bytes = len(raw)

    def read(self) -> bytes:
        return self._raw


class _NotedAnswers(Answers):
    """Notes when each image was answered, and the first that failed."""

    def __init__(self, module: ModuleIdentity) -> None:
        super().__init__(module)
        self.finished: list[float] = []
        self.latencies_ms: list[float] = []
        self.failure: AnalysisError | None = None
        self._news = threading.Condition()

    def succeed(self, task: Task, detections: Sequence[Detection]) -> None:
        super().succeed(task, detections)
        self._note(task)

    def fail(self, task: Task, error: AnalysisError) -> None:
        super().fail(task, error)
        self.failure = self.failure or error
        self._note(task)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.finished)

    def wait_beyond(self, count: int, timeout_s: float) -> None:
        """Returns once there are more than `count`, or after a while."""
        with self._news:
            self._news.wait_for(lambda: self.count > count, timeout_s)

    def _note(self, task: Task) -> None:
        now = time.monotonic()
        with self._news:
            self.finished.append(now)
            self.latencies_ms.append(1000 * (now - task.taken_at))
            self._news.notify()


def record(name: str, number: int, taken_at: float) -> Record:
    """A record of the images topic that asks for one image, as the intake would have made it."""
    position = RecordPosition("", "bench", 0, number, datetime.now(UTC))
    request = Request(version=VERSION, request_id=str(number), image=ImageReference(BUCKET, name))
    task = Task(
        request, None, position.at(0), PartitionWindow(position.topic, 0), Found(name), taken_at=taken_at
    )
    return Record(position, None, None, [], (task,))


def arrivals(per_s: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments at which independent senders' images arrive (a Poisson process), the first at once."""
    source = random.Random(seed)  # noqa: S311 - a load, not a secret
    at_s = 0.0
    while at_s <= seconds:
        yield at_s
        at_s += source.expovariate(per_s)
