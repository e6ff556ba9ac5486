"""A loaded module and images for it, in one process: where everything is measured."""

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
from msgspec.structs import replace

from consumers.analyzer.account import Account
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.preparing import Prepare
from consumers.analyzer.tuning import orders
from consumers.analyzer.tuning.feeding import Feeder, FullLoad, record
from consumers.analyzer.tuning.figures import Batch, BatchSweep, Combination, Preparation
from consumers.analyzer.tuning.measuring import batch_sizes, repeat, sweep_batches, time_calls
from consumers.analyzer.tuning.samples import read_samples
from consumers.analyzer.window import Task
from infra.images.errors import ImageError
from modules.answers import read_answers
from modules.contract import Module, ModuleTraits, works_ahead
from schemas.errors import AnalysisError, ErrorCode

clock = time.perf_counter


class _Shown(msgspec.Struct, frozen=True):
    """What the module made of a file, and which batches may hold it."""

    kind: Hashable
    prepared: Any


class Workbench:
    """Measures one module as it is ordered to; for one thread.

    Raises:
        AnalysisError: none of the files can be decoded and prepared.
    """

    def __init__(self, module: Module[Any], config: orders.BenchConfig) -> None:
        self._module: Any = module
        self._config = config
        self._asynchronous = works_ahead(module)
        self._traits = ModuleTraits.of(module)
        largest = config.settings.max_image_bytes
        read, self._skipped = read_samples([Path(name) for name in config.files], largest, self._show)
        self._files = {name: raw for name, (raw, _) in read.items()}
        self._items = _most_alike([shown for _, shown in read.values()])

    def loaded(self) -> orders.Loaded:
        """What is loaded, and with which files it can be measured."""
        return orders.Loaded(
            name=self._module.name,
            version=self._module.version,
            max_batch=self._traits.max_batch,
            timeout_s=self._traits.timeout_s,
            files=tuple(self._files),
            skipped=tuple(self._skipped),
            memory_bytes=psutil.Process().memory_info().rss,
        )

    def do(self, order: orders.Order) -> Preparation | BatchSweep | FullLoad | list[float]:
        """Measures.

        Raises:
            AnalysisError: the module failed, or has no memory for a single image.
        """
        match order:
            case orders.Prepare():
                return self._prepare(order.threads, order.seconds)
            case orders.Infer():
                return self._infer(order.seconds)
            case orders.FillPipeline():
                return self._feeder(order.combination).at_full_load(order.seconds)
            case orders.PacePipeline():
                feeder = self._feeder(order.combination)
                return feeder.at_rate(order.images_per_s, order.seconds, seed=self._config.index)

    def _prepare(self, threads: int, seconds: float) -> Preparation:
        stage = self._stage(lambda _kind, task: task.free(), threads)
        files = list(self._files.items())

        def work(number: int) -> int:
            start = number % len(files)
            mine = itertools.cycle(files[start:] + files[:start])
            return repeat(lambda: stage(task_of(*next(mine))), seconds, clock)

        cpu_s, started = time.process_time(), clock()
        with ThreadPoolExecutor(threads) as pool:
            images = sum(pool.map(work, range(threads)))
        spent_s, cpu_s = clock() - started, time.process_time() - cpu_s
        return Preparation(
            workers=1, threads=threads, images_per_s=images / spent_s, cpu_ms=1000 * cpu_s / images
        )

    def _infer(self, seconds: float) -> BatchSweep:
        sizes = batch_sizes(self._traits.max_batch)
        sweep = sweep_batches(self._time_batch, sizes, seconds, clock)
        _settle_device_memory(self._config.device)
        if not sweep.batches:
            raise AnalysisError(ErrorCode.DEVICE_OUT_OF_MEMORY, f"{self._module.name}: {sweep.ended}")
        return sweep

    def _time_batch(self, size: int, seconds: float) -> Batch:
        batch = list(itertools.islice(itertools.cycle(self._items), size))
        _settle_device_memory(self._config.device)
        ahead = _Ahead(self._module, batch) if self._asynchronous else None
        share = seconds / 2 if ahead else seconds
        alone = fed = time_calls(lambda: read_answers(self._module.infer(batch), size), share, clock)
        if ahead is not None:
            fed = time_calls(ahead, share, clock)
            ahead.finish()
        return Batch(
            size=size,
            ms=1000 * alone.median_s,
            images_per_s=size / fed.median_s,
            calls=alone.calls,
            steady=alone.steady and fed.steady,
            memory_bytes=_peak_memory_bytes(self._config.device),
        )

    def _feeder(self, combination: Combination) -> Feeder:
        settings = replace(
            self._config.settings,
            max_batch=combination.max_batch,
            max_wait_ms=combination.max_wait_ms,
            image_threads=combination.threads,
        )
        feeder = Feeder(self._module, self._files, settings)
        feeder.start()
        return feeder

    def _show(self, name: str, raw: bytes) -> _Shown:
        shown = []
        task = task_of(name, raw)
        try:
            self._stage(lambda kind, task: shown.append(_Shown(kind, task.prepared)))(task)
        except ImageError as error:
            raise ImageError(error.code, error.message.removeprefix(f"{task.uri}: ")) from None
        task.free()
        return shown[0]

    def _stage(self, hand_on: Callable[[Hashable, Task], None], threads: int = 1) -> Prepare:
        settings = self._config.settings
        budget = ByteBudget(settings.image_memory_bytes // 2)
        flight = FlightRecorder(None, threads, 0.0)
        pixels = settings.max_image_pixels
        return Prepare(self._module, pixels, budget, Account(), flight, hand_on, _never)


def _never(task: Task) -> None:
    raise AssertionError(f"{task.uri} was not fetched")


class _Ahead:
    """Each call submits a batch before it collects the one before, as a worker does."""

    def __init__(self, module: Any, batch: list[Any]) -> None:
        self._module = module
        self._batch = batch
        self._handle = module.submit(batch)

    def __call__(self) -> None:
        handle, self._handle = self._handle, self._module.submit(self._batch)
        read_answers(self._module.collect(handle), len(self._batch))

    def finish(self) -> None:
        """Collects the last one."""
        self._module.collect(self._handle)


def task_of(name: str, raw: bytes) -> Task:
    """A fetched image's task."""
    (task,) = record(name, 0, time.monotonic()).tasks
    task.raw = raw
    return task


def _most_alike(shown: list[_Shown]) -> list[Any]:
    """The prepared images of the kind that most are of: only images of one kind share a batch."""
    kinds: dict[Hashable, list[Any]] = defaultdict(list)
    for one in shown:
        kinds[one.kind].append(one.prepared)
    return max(kinds.values(), key=len)


def _settle_device_memory(device: str) -> None:
    """Gives back what torch keeps of the device's memory, and counts its peak anew."""
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory_bytes(device: str) -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.max_memory_allocated(device))
