"""What the harness asks of a peer: to be made ready, started on one job, watched, and stopped."""

import contextlib
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

import msgspec
import psutil

from infra.settings import DatabaseSettings, KafkaSettings, S3Settings

STOP_S = 10.0
"""How long a process may take to end by itself before it is killed."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run: `count` requests lie in the images topic already, and nobody else reads or writes here."""

    module: str
    """As `modules.loading.load_module` takes it."""
    count: int
    kafka: KafkaSettings
    """Where the requests are (`images_topic`) and where results go (`results_topic`)."""
    s3: S3Settings
    database: DatabaseSettings
    table: str
    """The table that a peer with `stores_rows` makes and fills: `request_id text, result json, stored_at
    timestamptz`; the last is the moment of its insertion."""
    folder: Path
    """An empty folder for logs and whatever else the run needs."""
    processes: int = 2


class PeerFailed(Exception):
    """A peer could not be made ready or started, or ended before it was told to."""


class Running:
    """The processes of one run."""

    def __init__(self, workers: list[subprocess.Popen[bytes]], log: Path) -> None:
        self._workers = workers
        self.log = log

    @property
    def processes(self) -> list[psutil.Process]:
        """The worker processes and all their children; servers that a peer brings along are not among them."""
        roots = [psutil.Process(worker.pid) for worker in self._workers if worker.poll() is None]
        return [*roots, *(child for root in roots for child in root.children(recursive=True))]

    def cpu_seconds(self) -> float:
        """CPU time of the processes so far, with that of children that have ended."""
        total = 0.0
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def check(self) -> None:
        """Call it while waiting for results.

        Raises:
            PeerFailed: a worker has ended; the message holds the last lines of the log.
        """
        for worker in self._workers:
            if worker.poll() is not None:
                raise PeerFailed(f"a worker ended with status {worker.returncode}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Ends everything that `start` started, servers included; may be called twice."""
        stop(self._workers)


class Peer(ABC):
    """One alternative to this project, as a user of it would set it up."""

    name: str
    stores_rows: bool = False
    """Its results are rows of `Job.table`; otherwise they are records (`schemas.messages.Result`) of the
    results topic."""

    @abstractmethod
    def unavailable(self) -> str:
        """Why it cannot run on this machine, as a sentence for the table; empty if it can."""

    @abstractmethod
    def prepare(self) -> None:
        """Installs what it needs, in an environment of its own; quick where that was done before.

        Raises:
            PeerFailed: an installation failed.
        """

    @abstractmethod
    def prepared(self) -> bool:
        """Whether `prepare` would have nothing to do."""

    @abstractmethod
    def version(self) -> str:
        """The versions that matter, such as `faust-streaming 0.11.3`; after `prepare`."""

    @abstractmethod
    def start(self, job: Job) -> Running:
        """Starts the run's processes and returns at once, or when its servers hold the requests.

        Raises:
            PeerFailed: a server did not start.
        """


def stop(processes: list[subprocess.Popen[bytes]], timeout_s: float = STOP_S) -> None:
    """Ends processes and their children: SIGTERM, then SIGKILL for those that stay."""
    families = [psutil.Process(process.pid) for process in processes if process.poll() is None]
    families = [member for root in families for member in [root, *root.children(recursive=True)]]
    for process in processes:
        process.terminate()
    psutil.wait_procs(families, timeout=timeout_s)
    for member in families:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    for process in processes:
        process.wait(timeout_s)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error's message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
