"""Where the time of an image goes: how busy each stage is, how full the batches are, whose CPU it is."""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from benchmarks import runs
from benchmarks.figures import Sheet
from benchmarks.ours import Ours
from benchmarks.plan import MODULES
from benchmarks.progress import say
from benchmarks.watcher import TopicWatcher
from benchmarks.workload import Workplace, preload, run_topics
from consumers.analyzer.account import Report as Account

ACCOUNT_DIR = "ANALYZER_ACCOUNT_DIR"
FETCH_THREADS = ("tokio", "obstore")
"""Beginnings of the names of obstore's own threads, which no stage's account sees."""
KAFKA_THREADS = ("rdk:",)
"""The same for librdkafka's."""
FOREIGN_STAGES = ("fetch", "decode", "preprocess", "infer")
"""Stages that are libraries' or the module's work; all else is the service's own."""

DEVICE_LIMITS = 0.85
"""A device that works for this share of the time is what limits the rate."""


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """CPU milliseconds an image."""

    stages: dict[str, float]
    """Of each stage's calls; `fetch` with its library's threads."""
    kafka_client: float
    """Of librdkafka's threads."""
    own: float
    """Of everything that is not fetch, decode or the module: our Python code, and the Kafka client."""
    total: float


def measure(place: Workplace, module: str, count: int, workers: int, sheet: Sheet) -> None:
    """Runs ours once with an account of its stages, and writes it down."""
    say(f"stages of {module}: {count} images")
    accounts, threads_s = _run(place, module, count, workers)
    shares = share(accounts, threads_s, count)
    prefix = f"stages.{module}"
    busy = busy_shares(accounts)
    for stage, busy_share in busy.items():
        sheet.add(f"{prefix}.busy.{stage}", busy_share * 100, "%")
    sheet.notes[module] = bottleneck(busy, shares)
    mean = mean_batch(accounts)
    sheet.add(f"{prefix}.mean_batch", mean, "images")
    sheet.add(f"{prefix}.batch_fill", mean / accounts[0].max_batch * 100, "%")
    _record_profile(sheet, f"profile.{module}", shares)


def share(accounts: Sequence[Account], threads_s: Mapping[str, float], images: int) -> Shares:
    """Whose the CPU time was.

    Args:
        accounts: one of each worker.
        threads_s: CPU seconds of threads by their names, summed over the workers.
    """
    stages_s: dict[str, float] = defaultdict(float)
    for account in accounts:
        for name, cost in account.stages.items():
            stages_s[name] += cost.cpu_s
    stages_s["fetch"] += _of(threads_s, FETCH_THREADS)
    total_s = sum(account.process_cpu_s for account in accounts)
    each = 1000 / images
    return Shares(
        stages={name: spent * each for name, spent in stages_s.items()},
        kafka_client=_of(threads_s, KAFKA_THREADS) * each,
        own=(total_s - sum(stages_s[name] for name in FOREIGN_STAGES)) * each,
        total=total_s * each,
    )


def busy_shares(accounts: Sequence[Account]) -> dict[str, float]:
    """Each stage's share of its time at work, the mean of the workers."""
    every = [account.busy() for account in accounts]
    return {stage: sum(busy[stage] for busy in every) / len(every) for stage in every[0]}


def mean_batch(accounts: Sequence[Account]) -> float:
    """Images a batch, over all workers."""
    sizes = [(size, times) for account in accounts for size, times in account.batches.items()]
    return sum(size * times for size, times in sizes) / sum(times for _, times in sizes)


def bottleneck(busy: Mapping[str, float], shares: Shares) -> str:
    """Names what limits the rate: a device that never rests, otherwise the CPU and who takes most of it."""
    if busy["infer"] >= DEVICE_LIMITS and shares.stages["infer"] < shares.total / 2:
        return f"the device is the limit: it works {busy['infer']:.0%} of the time"
    most = max(shares.stages, key=lambda stage: shares.stages[stage])
    part = shares.stages[most] / shares.total
    return f"the CPU is the limit; {most} takes {part:.0%} of what the workers use of it"


def _run(place: Workplace, module: str, count: int, workers: int) -> tuple[list[Account], dict[str, float]]:
    with (
        run_topics(place, runs.PARTITIONS) as topics,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        preload(place, topics, count, runs.PARTITIONS)
        job = runs.make_job(place, topics, MODULES[module], count, Path(folder), workers)
        ours = Ours(changes={ACCOUNT_DIR: folder})
        watcher = TopicWatcher(topics, runs.PARTITIONS)
        with contextlib.closing(watcher), runs.started(ours, job) as running:
            for _ in runs.progress(watcher, running, count):
                pass
            threads_s = thread_seconds(running.processes)
        files = sorted(Path(folder).glob("worker-*.json"))
        return [msgspec.json.decode(file.read_bytes(), type=Account) for file in files], threads_s


def thread_seconds(processes: Iterable[psutil.Process]) -> dict[str, float]:
    """CPU seconds so far by the names that the system has for threads."""
    seconds: dict[str, float] = defaultdict(float)
    for process in processes:
        for task in Path(f"/proc/{process.pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                spent_ns = int((task / "schedstat").read_text().split()[0])
                seconds[(task / "comm").read_text().strip()] += spent_ns / 1e9
    return dict(seconds)


def _of(threads_s: Mapping[str, float], beginnings: tuple[str, ...]) -> float:
    return sum(spent for name, spent in threads_s.items() if name.startswith(beginnings))


def _record_profile(sheet: Sheet, prefix: str, shares: Shares) -> None:
    for stage, spent in shares.stages.items():
        sheet.add(f"{prefix}.{stage}", spent, "ms/image")
    sheet.add(f"{prefix}.kafka_client", shares.kafka_client, "ms/image")
    sheet.add(f"{prefix}.own", shares.own, "ms/image")
    sheet.add(f"{prefix}.total", shares.total, "ms/image")
