"""The stages of one worker, joined by bounded queues."""

import math
import os
import queue
import threading
import time
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumers.analyzer.account import Account, Report
from consumers.analyzer.answers import Answers
from consumers.analyzer.batching import Batcher
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.ceiling import BatchCeiling
from consumers.analyzer.fetching import Fetch, FetchConcurrency
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.inference import Inference
from consumers.analyzer.preparing import Prepare
from consumers.analyzer.refilling import RefillQueue
from consumers.analyzer.stage import Stage, TaskQueue
from consumers.analyzer.store import Store
from consumers.analyzer.window import Task
from infra.settings import AnalyzerSettings
from modules.contract import Module, ModuleTraits

if TYPE_CHECKING:
    from consumers.analyzer.gpu_decoding import TensorDecoder

FIRST_FETCHES = 16
ADJUST_INTERVAL_S = 1.0
"""How often the number of GETs in flight is adjusted."""


class Pipeline:
    """Fetch, decode, infer: tasks go in, answers appear on them.

    Bytes wait in two budgets of their own, one for fetched files and one for decoded images: with a
    single one, files that wait to be decoded could hold what decoding needs.

    Args:
        image_threads: threads that decode and preprocess.
        flight: where to keep on record what native code has in hand.
        tensors: as in `Prepare`.
    """

    def __init__(
        self,
        module: Module[Any],
        store: Store,
        answers: Answers,
        settings: AnalyzerSettings,
        image_threads: int,
        account: Account,
        stopping: threading.Event,
        flight: Path | None = None,
        tensors: "TensorDecoder | None" = None,
    ) -> None:
        traits = ModuleTraits.of(module)
        max_batch = self._max_batch = min(settings.max_batch or traits.max_batch, traits.max_batch)
        # A batch at work, the next one, and an image in each thread.
        self._flight = FlightRecorder(flight, 2 * max_batch + image_threads, traits.timeout_s)
        memory = settings.image_memory_bytes // 2
        self._account = account
        self._coming = _Coming()
        ceiling = BatchCeiling(max_batch)
        self._batcher: Batcher[Task] = Batcher(
            settings.max_wait_ms / 1000, 2 * max_batch, lambda: ceiling.current, self._coming
        )
        self._fetch_inbox: TaskQueue = queue.Queue()
        self._fetched: RefillQueue[Task] = RefillQueue(FIRST_FETCHES // 2)
        self._fetches = Fetch(
            store, settings.max_image_bytes, ByteBudget(memory), account, self._fetched, stopping
        )
        prepare = Prepare(
            module,
            settings.max_image_pixels,
            ByteBudget(memory),
            account,
            self._flight,
            self._hand_on,
            self._fetch_inbox.put,
            tensors,
        )
        ended = self._coming.leave
        self._fetch = Stage("fetch", FIRST_FETCHES, self._fetch_inbox, self._fetches, answers, ended)
        self._prepare = Stage("prepare", image_threads, self._fetched, prepare, answers, ended)
        self._inference = Inference(module, self._batcher, ceiling, answers, account, self._flight)
        self.started = False
        self._adjust_at_s = 0.0
        self._concurrency = FetchConcurrency(FIRST_FETCHES, settings.max_fetches)

    def start(self) -> None:
        """Starts every stage's threads."""
        self.started = True
        self._account.begin()
        self._inference.start()
        self._prepare.start()
        self._fetch.start()

    def check(self) -> None:
        """Makes sure that every stage works; without one, partitions would be held and nothing answered.

        Raises:
            DeviceOutOfMemory: there is no memory for even one image.
            RuntimeError: a thread has ended.
        """
        if self._inference.failure is not None:
            raise self._inference.failure
        if not (self._fetch.alive and self._prepare.alive and self._inference.alive):
            raise RuntimeError("a thread of the pipeline has ended")
        now_s = time.monotonic()
        if now_s >= self._adjust_at_s:
            self._adjust_at_s = now_s + ADJUST_INTERVAL_S
            fetches = self._concurrency.wanted(self._fetches.latencies_s(), now_s)
            self._fetch.resize(fetches)
            # Twice what is decoded while a GET is under way, see FetchConcurrency.
            self._fetched.set_low(fetches // 2)

    def submit(self, tasks: Collection[Task]) -> None:
        """Takes tasks in; the window bounds how many are inside."""
        self._coming.enter(len(tasks))
        for task in tasks:
            task.submitted = True
            self._fetch_inbox.put(task)

    @property
    def hands_free(self) -> bool:
        """Whether nothing is being decoded, prepared or inferred."""
        return self._flight.empty

    def beat(self) -> None:
        """Notes that the worker's main loop goes on."""
        self._flight.beat()

    def end(self) -> None:
        """Notes that the process ends by itself: whatever is still at work is not to blame."""
        self._flight.end()

    def report(self) -> Report:
        """What the stages cost so far."""
        threads = dict.fromkeys(("decode", "preprocess"), self._prepare.size)
        return self._account.report({"fetch": self._fetch.size, **threads}, self._max_batch)

    def _hand_on(self, kind: Hashable, task: Task) -> None:
        self._coming.leave()
        self._batcher.put(kind, task)


class _Coming:
    """Counts the tasks between their intake and the batcher."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def enter(self, count: int) -> None:
        with self._lock:
            self._count += count

    def leave(self) -> None:
        with self._lock:
            self._count -= 1

    def __call__(self) -> bool:
        return self._count > 0


def default_image_threads(workers: int) -> int:
    """Threads that decode in each of this machine's workers.

    One a core in all, for it is the CPU's work, and two at least: one waits for Python's lock now and then.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, math.ceil(cores / workers))
