"""The processes of one run: started, watched and ended together."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.peers.errors import PeerFailed
from benchmarks.peers.job import VARIABLE, Job, encoded
from infra.settings import project_dir

STOP_S = 10.0
"""How long a process may take to end by itself before it is killed."""


class Running:
    """A peer at work; `stop` it in any case."""

    def __init__(
        self,
        workers: Sequence["Process"],
        log: Path,
        servers: Sequence["Process"] = (),
        clean_up: Callable[[], None] = lambda: None,
    ) -> None:
        """A peer at work.

        Args:
            servers: processes that the peer brings along, which `clean_up` ends.
            clean_up: called when the workers have ended, once for each call of `stop`.
        """
        self._workers = workers
        self._servers = servers
        self._clean_up = clean_up
        self.log = log

    @property
    def processes(self) -> list[psutil.Process]:
        """The worker processes and all their children, but not `servers`."""
        return [member for worker in self._workers for member in family(worker)]

    @property
    def servers(self) -> list[psutil.Process]:
        """Servers that a peer brings along, such as a message broker, with their children."""
        return [member for server in self._servers for member in family(server)]

    def cpu_seconds(self) -> float:
        """CPU time of the worker processes so far, with that of children that have ended."""
        return sum(map(_cpu_seconds, self.processes))

    def check(self) -> None:
        """Call it while waiting for results.

        Raises:
            PeerFailed: a worker has ended; the message holds the last lines of the log.
        """
        for worker in self._workers:
            if worker.poll() is not None:
                raise PeerFailed(f"a worker ended with status {worker.returncode}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Ends the workers, then what else was started or made for them; may be called twice."""
        try:
            end(self._workers)
        finally:
            self._clean_up()


Process = subprocess.Popen[bytes]


def launch(
    program: Sequence[str], log: Path, job: Job | None = None, environment: Mapping[str, str] | None = None
) -> Process:
    """Starts a process of a peer in the checkout's folder; what it prints goes to the end of `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=project_dir(),
            env={**_basics(), **({VARIABLE: encoded(job)} if job else {}), **(environment or {})},
            # Ctrl-C reaches the harness alone, which ends workers before the servers that they need.
            start_new_session=True,
        )


def family(process: Process) -> list[psutil.Process]:
    """A process and its children; none if it has ended."""
    if process.poll() is not None:
        return []
    try:
        leader = psutil.Process(process.pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(processes: Iterable[Process]) -> None:
    """Ends processes and all their children: SIGTERM to the first, then SIGKILL to whatever stays."""
    processes = list(processes)
    members = [member for process in processes for member in family(process)]
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(members, timeout=STOP_S)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    for process in processes:
        process.wait(STOP_S)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error's message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def _basics() -> dict[str, str]:
    # One thread each for torch and its like: with two workers on few cores they would fight for them.
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(project_dir()),
        "OMP_NUM_THREADS": "1",
    }


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
