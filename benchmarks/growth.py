"""How ours behaves as something grows: partitions and workers, the backlog, the number of images so far."""

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks import runs
from benchmarks.errors import RunFailed
from benchmarks.figures import Sheet
from benchmarks.ours import Ours, ready_file
from benchmarks.peers.base import Running
from benchmarks.plan import MODULES
from benchmarks.progress import say
from benchmarks.usage import Servers
from benchmarks.watcher import TopicWatcher
from benchmarks.workload import Workplace, preload, run_topics

SIZES = (1, 2, 4, 8)
SCALES = tuple((partitions, workers) for partitions in SIZES for workers in SIZES if workers <= partitions)
"""Partitions and workers; workers beyond the partitions would have nothing to do."""
BACKLOGS = (1_000, 10_000, 100_000)
WORKERS = 2
WARM = 1_000
"""Images of each worker after which its memory must stay as it is."""
POINTS = 200
"""About as many points of a plot are kept."""
START_S = 120.0


def scaling(
    place: Workplace, servers: Servers, module: str, seconds: float, guess: float, sheet: Sheet
) -> None:
    """Rates with 1 to 8 partitions and workers.

    Args:
        guess: images a second that two workers reach, for the number of images.
    """
    for partitions, workers in SCALES:
        say(f"scaling of {module}: {partitions} partitions, {workers} workers")
        count = max(400, round(guess * seconds * min(workers, 2) / 2))
        run = runs.measure(place, servers, Ours(), MODULES[module], count, workers, partitions)
        sheet.add(f"scaling.{module}.partitions_{partitions}.workers_{workers}", run.rate, "images/s")


def backlog(place: Workplace, servers: Servers, module: str, sizes: Sequence[int], sheet: Sheet) -> None:
    """Rate and CPU an image, however many requests wait."""
    for size in sizes:
        say(f"backlog of {module}: {size} images")
        run = runs.measure(place, servers, Ours(), MODULES[module], size)
        sheet.add(f"backlog.{module}.{size}", run.rate, "images/s")
        sheet.add(f"backlog.{module}.{size}.cpu_per_1000_images", run.cpu_ms, "s")


def memory(place: Workplace, module: str, images: int, sheet: Sheet) -> None:
    """Resident memory of the largest worker after 1,000 images, and the most that it was later."""
    say(f"memory of {module}: {images} images")
    with (
        run_topics(place, runs.PARTITIONS) as topics,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        preload(place, topics, images, runs.PARTITIONS)
        job = runs.make_job(place, topics, MODULES[module], images, Path(folder), WORKERS)
        watcher = TopicWatcher(topics, runs.PARTITIONS)
        with contextlib.closing(watcher), runs.started(Ours(), job) as running:
            samples = [(seen, worker_mib(running)) for seen in runs.progress(watcher, running, images)]
    prefix = f"memory.{module}"
    warm = [mib for seen, mib in samples if seen >= WARM * WORKERS]
    sheet.series[prefix] = [(float(seen), mib) for seen, mib in samples[:: max(1, len(samples) // POINTS)]]
    sheet.add(f"{prefix}.worker", warm[0], "MiB")
    sheet.add(f"{prefix}.worker_at_most", max(warm), "MiB")
    sheet.add(f"{prefix}.growth", (max(warm) / warm[0] - 1) * 100, "%")


def startup(place: Workplace, module: str, sheet: Sheet) -> None:
    """Time until all workers are ready, and resident memory by then."""
    with (
        run_topics(place, runs.PARTITIONS) as topics,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        job = runs.make_job(place, topics, MODULES[module], 0, Path(folder), WORKERS)
        began = time.monotonic()
        with runs.started(Ours(), job) as running:
            while not ready_file(job).exists():
                running.check()
                if time.monotonic() - began > START_S:
                    raise RunFailed(f"not ready after {START_S:.0f} s")
                time.sleep(0.01)
            sheet.add(f"startup.{module}", time.monotonic() - began, "s")
            sheet.add(f"startup.{module}.worker_memory", worker_mib(running), "MiB")


def worker_mib(running: Running) -> float:
    """Resident memory of the largest process: a worker, since the supervisor loads no module."""
    sizes = []
    for process in running.processes:
        with contextlib.suppress(psutil.Error):
            sizes.append(process.memory_info().rss)
    return max(sizes) / 2**20
