"""One contender works through one preloaded topic, and what that took."""

import contextlib
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.errors import RunFailed
from benchmarks.ours import Ours
from benchmarks.peers.base import Job, Peer, Running
from benchmarks.usage import Servers, cpu_seconds
from benchmarks.watcher import RowsWatcher, TopicWatcher, Watcher
from benchmarks.workload import Workplace, preload, run_topics
from infra.settings import KafkaSettings

PARTITIONS = 4
BEGIN_AT, LATE_AT = 0.1, 0.9
"""Shares of the results: counting begins at the first; between the two is the steady rate."""
PATIENCE_S = 60.0
"""How long a contender may take to start, and how long it may bring no new result."""


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a run at one moment."""

    at_s: float
    """On the monotonic clock."""
    results: int
    cpu_s: float
    """CPU time of the contender's processes so far."""
    servers_cpu_s: float
    """CPU time of Kafka, the object store, PostgreSQL, and servers that the contender brings along."""


class Run(msgspec.Struct, frozen=True):
    """What one run took between two moments; start-up lies before the first.

    Counting begins with the first tenth of the results, for all alike: by then every process has started,
    the group's last rebalance is over, and caches and pipelines are filled. It ends with the last result.
    """

    begin: Snapshot
    late: Snapshot
    end: Snapshot
    first_result_s: float
    """From the start of the processes until the first committed result."""

    @property
    def images(self) -> int:
        """Images that were counted."""
        return self.end.results - self.begin.results

    @property
    def seconds(self) -> float:
        """The time that they took."""
        return self.end.at_s - self.begin.at_s

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def steady_rate(self) -> float:
        """Images a second while pipelines are full at both ends: neither what was in them at first helps, nor
        what is left in them at last. 0 where the results came in too few parts to tell."""
        images, seconds = self.late.results - self.begin.results, self.late.at_s - self.begin.at_s
        return images / seconds if seconds else 0.0

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image of the contender's processes."""
        return (self.end.cpu_s - self.begin.cpu_s) / self.images * 1000

    @property
    def cores_used(self) -> float:
        """Cores that contender and servers kept busy together."""
        spent = self.end.cpu_s - self.begin.cpu_s + self.end.servers_cpu_s - self.begin.servers_cpu_s
        return spent / self.seconds

    @property
    def servers_cpu_ms(self) -> float:
        """CPU milliseconds an image of the servers."""
        return (self.end.servers_cpu_s - self.begin.servers_cpu_s) / self.images * 1000


def measure(
    place: Workplace,
    servers: Servers,
    contender: Peer,
    module: str,
    count: int,
    processes: int = 2,
    partitions: int = PARTITIONS,
) -> Run:
    """Runs a contender on `count` preloaded requests, on topics of its own.

    Raises:
        PeerFailed: it could not be started, or ended by itself.
        ResultsWrong: it answered `failed`.
        RunFailed: no new result came for `PATIENCE_S`.
    """
    with (
        run_topics(place, partitions) as topics,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        preload(place, topics, count, partitions)
        job = make_job(place, topics, module, count, Path(folder), processes)
        with (
            contextlib.closing(_watcher(place, contender, job, partitions)) as watcher,
            started(contender, job) as running,
        ):
            return watch(watcher, running, servers, count)


@contextlib.contextmanager
def started(contender: Peer, job: Job) -> Iterator[Running]:
    """A contender at work; its processes end with the block."""
    running = contender.start(job)
    try:
        yield running
    finally:
        running.stop()


def watch(watcher: Watcher, running: Running, servers: Servers, count: int) -> Run:
    """Waits for `count` results and notes how things stand at the moments that matter."""
    started_at, first_at = time.monotonic(), 0.0
    wanted = [max(1, math.ceil(count * share)) for share in (BEGIN_AT, LATE_AT, 1.0)]
    reached: list[Snapshot] = []
    for seen in progress(watcher, running, count):
        first_at = first_at or time.monotonic()
        if seen >= wanted[len(reached)]:
            now = snapshot(seen, running, servers)
            reached += [now for mark in wanted[len(reached) :] if seen >= mark]
    begin, late, end = reached
    if begin.results == end.results:
        raise RunFailed(f"all {count} results came at once; measuring takes more images")
    return Run(begin, late, end, first_at - started_at)


def snapshot(results: int, running: Running, servers: Servers) -> Snapshot:
    """How things stand now."""
    return Snapshot(
        at_s=time.monotonic(),
        results=results,
        cpu_s=running.cpu_seconds(),
        servers_cpu_s=servers.cpu_seconds() + cpu_seconds(running.servers),
    )


def make_job(
    place: Workplace, topics: KafkaSettings, module: str, count: int, folder: Path, processes: int
) -> Job:
    """What a contender is told."""
    return Job(
        module=module,
        count=count,
        kafka=topics,
        s3=place.s3,
        database=place.database,
        table=topics.results_topic.replace("-", "_").replace(".", "_"),
        folder=folder,
        processes=processes,
    )


def progress(watcher: Watcher, running: Running, count: int) -> Iterator[int]:
    """The number of results each time that it has grown, until there are `count`.

    Raises:
        PeerFailed: a process ended by itself.
        RunFailed: no new result came for `PATIENCE_S`.
    """
    before, deadline = 0, time.monotonic() + PATIENCE_S
    while before < count:
        seen = watcher.count()
        if seen > before:
            before, deadline = seen, time.monotonic() + PATIENCE_S
            yield seen
        elif time.monotonic() > deadline:
            raise RunFailed(f"no result came for {PATIENCE_S:.0f} s, after {seen} of {count}")
        running.check()


def _watcher(place: Workplace, contender: Peer, job: Job, partitions: int) -> Watcher:
    if isinstance(contender, Ours) and contender.stores_rows:
        return RowsWatcher(place.database, "results", job.kafka.images_topic)
    if contender.stores_rows:
        return RowsWatcher(place.database, job.table)
    return TopicWatcher(job.kafka, partitions)
