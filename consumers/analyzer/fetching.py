"""Stage 2a: the image's bytes from the object store, for as long as an outage lasts."""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from consumers.analyzer.account import Account
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.checksums import spoiled_md5
from consumers.analyzer.errors import Abandoned, StoreUnavailable
from consumers.analyzer.stage import TaskQueue
from consumers.analyzer.store import OpenObject, Store
from consumers.analyzer.window import Task
from infra.images.errors import ImageError
from schemas.errors import ErrorCode

R = TypeVar("R")

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.1
LAST_DELAY_S = 5.0
LEAST_FETCHES = 16
"""Enough for a burst, see RefillQueue."""
MARGIN = 4
"""How many times rate x latency: covers a latency that varies, and lets a bound by GETs double."""
REMEMBERED_LOOKS = 30


class Fetch:
    """Fetches one task's image and hands it on to be decoded."""

    def __init__(
        self,
        store: Store,
        max_bytes: int,
        budget: ByteBudget,
        account: Account,
        outbox: TaskQueue,
        stopping: threading.Event,
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._budget = budget
        self._account = account
        self._outbox = outbox
        self._stopping = stopping
        self._outage = Outage()
        self._latencies_s: list[float] = []

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

    def latencies_s(self) -> list[float]:
        """How long each GET took that ended since the last call."""
        taken, self._latencies_s = self._latencies_s, []
        return taken

    def _fetch(self, task: Task) -> None:
        opened, opened_s = self._metered(partial(self._open, task))
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
        task.raw, read_s = self._metered(opened.read, calls=0)
        self._latencies_s.append(opened_s + read_s)
        if task.refused_md5 is not None and (found_md5 := spoiled_md5(task)):
            task.refused_md5 = found_md5
            raise StoreUnavailable(f"{task.uri} arrives with other bytes each time, none of them its ETag's")

    def _metered(self, half: Callable[[], R], *, calls: int = 1) -> tuple[R, float]:
        """One half of a GET, and its seconds; between the two it may wait for the budget."""
        started = self._account.fetch.start()
        try:
            result = half()
        finally:
            spent_ms = self._account.fetch.stop(started, calls=calls)
        return result, spent_ms / 1000

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


class FetchConcurrency:
    """How many GETs to keep in flight: several times what Little's law says, rate x latency.

    The latency is the store's own, without the queueing that more GETs bring about: the least lower quartile
    of the last looks, as congestion control takes the least round trip. The latency of the moment would grow
    with the number of GETs, and call for ever more of them.
    """

    def __init__(self, first: int, most: int) -> None:
        self._current = min(first, most)
        self._most = most
        self._looked_at_s: float | None = None
        self._quartiles_s: deque[float] = deque(maxlen=REMEMBERED_LOOKS)

    def wanted(self, latencies_s: Sequence[float], now_s: float) -> int:
        """GETs to keep in flight from here on.

        Args:
            latencies_s: of all GETs that ended since the last call.
        """
        if self._looked_at_s is not None and latencies_s:
            rate = len(latencies_s) / (now_s - self._looked_at_s)
            self._quartiles_s.append(sorted(latencies_s)[len(latencies_s) // 4])
            needed = math.ceil(MARGIN * rate * min(self._quartiles_s))
            # Down by one at a time: a lull of a second is no reason to begin anew.
            self._current = min(max(needed, self._current - 1, LEAST_FETCHES), self._most)
        self._looked_at_s = now_s
        return self._current


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
