"""Time from publishing a request until its committed result is read, at shares of the highest rate.

Requests come as a Poisson process does, whatever the service makes of them (an open loop): a generator that
waits for answers would hide the very delays that are asked for.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import runs
from benchmarks.errors import RunFailed
from benchmarks.figures import Sheet
from benchmarks.ours import Ours
from benchmarks.peers.base import Running
from benchmarks.plan import MODULES
from benchmarks.progress import say
from benchmarks.watcher import TopicWatcher
from benchmarks.workload import Workplace, request, run_topics
from infra import kafka
from infra.settings import AnalyzerSettings, KafkaSettings, load

LOADS = (0.2, 0.5, 0.8)
PERCENTILES = (50, 95, 99)
WARM_UP = 200
"""Requests before the first that counts: they come as fast as they can and start everything."""
SETTLE_S = 2.0
"""The beginning of each load that does not count."""
PATIENCE_S = 60.0
SEED = 1


class Arrival(msgspec.Struct):
    """One request: when it was published, and when its result was seen."""

    sent_s: float
    seen_s: float | None = None


class Traffic:
    """Publishes requests at given moments from a thread of its own, and notes when their results come."""

    def __init__(self, place: Workplace, settings: KafkaSettings, partitions: int) -> None:
        self._place = place
        self._topic = settings.images_topic
        self._partitions = partitions
        self._producer = kafka.make_producer(kafka.producer_config(settings) | {"linger.ms": 0})
        self._arrivals: dict[str, Arrival] = {}

    def see(self, request_id: str) -> None:
        """A result came."""
        self._arrivals[request_id].seen_s = time.monotonic()

    def send(self, delays_s: Sequence[float]) -> list[Arrival]:
        """Publishes a request after each delay, from now on, in the calling thread."""
        sent, due = [], time.monotonic()
        for delay_s in delays_s:
            due += delay_s
            time.sleep(max(0.0, due - time.monotonic()))
            sent.append(self._publish())
        self._producer.flush(PATIENCE_S)
        return sent

    def _publish(self) -> Arrival:
        number = len(self._arrivals)
        # Stands before the request is sent: its result may be seen at once.
        arrival = self._arrivals[str(number)] = Arrival(time.monotonic())
        value = request(self._place, number)
        self._producer.produce(self._topic, value=value, partition=number % self._partitions)
        self._producer.poll(0)
        return arrival

    @property
    def published(self) -> int:
        """Requests so far."""
        return len(self._arrivals)


def measure(
    place: Workplace, module: str, peak: float, single_ms: float, seconds: float, workers: int, sheet: Sheet
) -> None:
    """Measures ours at each load, one after the other in one run of the analyzer.

    Args:
        peak: images a second that were measured end to end.
        single_ms: how long one image takes with nothing else going on.
        seconds: how long each load lasts.
    """
    with (
        run_topics(place, runs.PARTITIONS) as topics,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        traffic = Traffic(place, topics, runs.PARTITIONS)
        job = runs.make_job(place, topics, MODULES[module], 0, Path(folder), workers)
        watcher = TopicWatcher(topics, runs.PARTITIONS, traffic.see)
        with contextlib.closing(watcher), runs.started(Ours(), job) as running:
            _drive(traffic, watcher, running, [0.0] * WARM_UP)
            for load_share in LOADS:
                say(f"latency of {module} at {load_share:.0%} of {peak:.0f} images/s")
                arrivals = _drive(traffic, watcher, running, _delays(load_share * peak, seconds))
                _record(sheet, f"latency.{module}.{load_share * 100:.0f}", arrivals)
    sheet.add(f"latency.{module}.single_image", single_ms, "ms")
    sheet.add(f"latency.{module}.target_p99_at_20", target_ms(single_ms, load(AnalyzerSettings)), "ms")


def target_ms(single_ms: float, settings: AnalyzerSettings) -> float:
    """What p99 at the lowest load should be within: a batch's wait, a transaction's, and three images."""
    return settings.max_wait_ms + settings.transaction_interval_ms + 3 * single_ms


def _delays(rate: float, seconds: float) -> list[float]:
    random = np.random.default_rng(SEED)
    count = max(1, round(rate * (seconds + SETTLE_S)))
    return [float(delay) for delay in random.exponential(1 / rate, count)]


def _drive(
    traffic: Traffic, watcher: TopicWatcher, running: Running, delays_s: Sequence[float]
) -> list[Arrival]:
    """Publishes in a thread while results are read in this one; returns when all have come."""
    sent: list[Arrival] = []
    before = traffic.published
    thread = threading.Thread(target=lambda: sent.extend(traffic.send(delays_s)), name="publisher")
    thread.start()
    deadline = time.monotonic() + sum(delays_s) + PATIENCE_S
    while watcher.count() < before + len(delays_s):
        running.check()
        if time.monotonic() > deadline:
            raise RunFailed(f"results are missing {PATIENCE_S:.0f} s after the last request")
    thread.join()
    return sent


def _record(sheet: Sheet, prefix: str, arrivals: Sequence[Arrival]) -> None:
    latencies = list(_settled_ms(arrivals))
    for percentile in PERCENTILES:
        sheet.add(f"{prefix}.p{percentile}", float(np.percentile(latencies, percentile)), "ms")
    sheet.add(f"{prefix}.rate", _rate(arrivals), "images/s")


def _settled_ms(arrivals: Sequence[Arrival]) -> Iterator[float]:
    counts_from = arrivals[0].sent_s + SETTLE_S
    for arrival in arrivals:
        if arrival.sent_s >= counts_from and arrival.seen_s is not None:
            yield (arrival.seen_s - arrival.sent_s) * 1000


def _rate(arrivals: Sequence[Arrival]) -> float:
    return len(arrivals) / max(arrivals[-1].sent_s - arrivals[0].sent_s, 1e-3)
