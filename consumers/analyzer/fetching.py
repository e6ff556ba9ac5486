"""Stage 2a: the image's bytes from the object store, for as long as an outage lasts."""

import logging
import random
import threading
import time
from collections.abc import Iterator

from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.errors import Abandoned, ImageError, StoreUnavailable
from consumers.analyzer.stage import TaskQueue
from consumers.analyzer.store import ObjectStore, OpenObject
from consumers.analyzer.window import Task
from schemas.errors import ErrorCode

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.1
LAST_DELAY_S = 5.0


class Fetch:
    """Fetches one task's image and hands it on to be decoded."""

    def __init__(
        self,
        store: ObjectStore,
        max_bytes: int,
        budget: ByteBudget,
        outbox: TaskQueue,
        stopping: threading.Event,
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._budget = budget
        self._outbox = outbox
        self._stopping = stopping
        self._outage = Outage()

    def __call__(self, task: Task) -> None:
        started = time.monotonic()
        for delay_s in _delays():
            try:
                self._fetch(task)
            except StoreUnavailable as error:
                task.free_raw()
                self._outage.begin(str(error))
                self._wait(task, delay_s)
            else:
                break
        self._outage.end()
        task.spent.fetch = (time.monotonic() - started) * 1000
        self._outbox.put(task)

    def _fetch(self, task: Task) -> None:
        opened = self._open(task)
        found = task.found
        found.etag = opened.etag.strip('"') if opened.etag else None
        found.version_id = opened.version_id
        found.size_bytes = opened.size_bytes
        if opened.size_bytes == 0:
            raise ImageError(ErrorCode.OBJECT_EMPTY, f"{task.uri} holds zero bytes")
        if opened.size_bytes > self._max_bytes:
            raise ImageError(
                ErrorCode.OBJECT_TOO_LARGE,
                f"{task.uri} has {opened.size_bytes} bytes; "
                f"the limit is {self._max_bytes} (ANALYZER_MAX_IMAGE_BYTES)",
            )
        task.raw_lease = self._budget.hold(opened.size_bytes)
        task.raw = opened.read()

    def _open(self, task: Task) -> OpenObject:
        image = task.request.image
        try:
            return self._store.open(image, image.key)
        except ImageError as error:
            if error.code != ErrorCode.OBJECT_NOT_FOUND or task.fallback_key is None:
                raise
            opened = self._store.open(image, task.fallback_key)
            task.found.key = task.fallback_key
            return opened

    def _wait(self, task: Task, delay_s: float) -> None:
        self._stopping.wait(delay_s)
        if task.abandoned or self._stopping.is_set():
            task.given_up = True
            raise Abandoned


class Outage:
    """Says once that the store is away, and once that it is back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def begin(self, reason: str) -> None:
        """A fetch failed for the store's sake."""
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                logger.warning("the object store is unavailable, waiting for it: %s", reason)

    def end(self) -> None:
        """A fetch succeeded."""
        if self._since is None:
            return
        with self._lock:
            if self._since is not None:
                logger.info("the object store is back after %.1f s", time.monotonic() - self._since)
                self._since = None


def _delays() -> Iterator[float]:
    """Exponential back-off with jitter, without end: an outage is not an error."""
    ceiling = FIRST_DELAY_S
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, guards nothing
        ceiling = min(ceiling * 2, LAST_DELAY_S)
