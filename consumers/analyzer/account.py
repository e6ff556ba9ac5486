"""What the stages of a worker cost: calls, time and CPU of each, and how full the batches were."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec


class Started(NamedTuple):
    """When a call began, by the clock and by the CPU of its thread (0 where that is not metered)."""

    wall_s: float
    cpu_s: float


class Cost(msgspec.Struct, frozen=True):
    """What one kind of work took so far."""

    calls: int
    wall_s: float
    cpu_s: float
    """CPU of the calling threads, 0 where it is not metered; that of a library's own threads is not in it."""


class Meter:
    """Adds up the calls of one kind of work; several threads may use it at once.

    Args:
        cpu_clock: `time.thread_time`, or `float` to leave CPU out: reading it is a system call.
    """

    def __init__(self, cpu_clock: Callable[[], float]) -> None:
        self._cpu_clock = cpu_clock
        self._lock = threading.Lock()
        self._calls = 0
        self._wall_s = 0.0
        self._cpu_s = 0.0

    def start(self) -> Started:
        """A call begins in this thread."""
        return Started(time.monotonic(), self._cpu_clock())

    def stop(self, started: Started, *, calls: int = 1) -> float:
        """It ended, in the same thread; returns the milliseconds that it took.

        Args:
            calls: 0 for the first half of a call that is interrupted by a wait for something else.
        """
        cpu_s = self._cpu_clock() - started.cpu_s
        wall_s = time.monotonic() - started.wall_s
        with self._lock:
            self._calls += calls
            self._wall_s += wall_s
            self._cpu_s += cpu_s
        return wall_s * 1000

    @property
    def cost(self) -> Cost:
        """All calls that ended."""
        with self._lock:
            return Cost(self._calls, self._wall_s, self._cpu_s)


class Report(msgspec.Struct, frozen=True):
    """One worker's account."""

    elapsed_s: float
    process_cpu_s: float
    stages: dict[str, Cost]
    threads: dict[str, int]
    """Threads that do each stage's work."""
    batches: dict[int, int]
    """How many batches of each size there were."""
    max_batch: int
    """How many images a batch may hold."""

    @property
    def mean_batch(self) -> float:
        """Images a batch; 0 before the first."""
        count = sum(self.batches.values())
        return sum(size * times for size, times in self.batches.items()) / count if count else 0.0

    def busy(self) -> dict[str, float]:
        """The share of its time that each stage worked, 1 where all its threads always did."""
        return {
            name: cost.wall_s / (self.elapsed_s * self.threads.get(name, 1))
            for name, cost in self.stages.items()
        }


class Account:
    """The meters of one worker, named after its stages.

    Args:
        with_cpu: meter the CPU of each stage too.
    """

    def __init__(self, *, with_cpu: bool = False) -> None:
        cpu_clock = time.thread_time if with_cpu else float
        self.fetch = Meter(cpu_clock)
        self.decode = Meter(cpu_clock)
        self.preprocess = Meter(cpu_clock)
        self.infer = Meter(cpu_clock)
        self.publish = Meter(cpu_clock)
        self._batches: Counter[int] = Counter()
        self._started = time.monotonic()
        self._cpu_at_start = time.process_time()

    def begin(self) -> None:
        """Leaves out what came before, such as loading the model."""
        self._started = time.monotonic()
        self._cpu_at_start = time.process_time()

    def count_batch(self, size: int) -> None:
        """A batch of `size` images went to the module; called by the inference thread only."""
        self._batches[size] += 1

    def report(self, threads: Mapping[str, int], max_batch: int) -> Report:
        """The account so far.

        Args:
            threads: how many threads do each stage's work, where it is not one.
            max_batch: images a batch may hold.
        """
        meters = {
            "fetch": self.fetch,
            "decode": self.decode,
            "preprocess": self.preprocess,
            "infer": self.infer,
            "publish": self.publish,
        }
        return Report(
            elapsed_s=time.monotonic() - self._started,
            process_cpu_s=time.process_time() - self._cpu_at_start,
            stages={name: meter.cost for name, meter in meters.items()},
            threads=dict(threads),
            batches=dict(self._batches),
            max_batch=max_batch,
        )


def save(report: Report, folder: str, worker: int) -> None:
    """Writes a worker's account as `worker-<index>-<pid>.json` into a folder that exists."""
    path = os.path.join(folder, f"worker-{worker}-{os.getpid()}.json")  # noqa: PTH118 - a plain name
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(msgspec.json.encode(report) + b"\n")
