"""CPU time of the servers that all contenders share."""

import contextlib
from collections.abc import Iterable

import psutil

from benchmarks.errors import StackUnfit
from infra.local.process import alive
from infra.local.state import StackFolder
from infra.settings import local_dir

SERVERS = ("kafka", "s3", "postgres")


class Servers:
    """Kafka, the object store and PostgreSQL of the local stack."""

    def __init__(self) -> None:
        """Finds their processes.

        Raises:
            StackUnfit: one does not run, or the application runs too and would take part.
        """
        folder = StackFolder(local_dir())
        running = {
            name: record.pid
            for name in folder.recorded()
            if (record := folder.record(name)) is not None and alive(record)
        }
        missing = [name for name in SERVERS if name not in running]
        if missing:
            raise StackUnfit(f"{', '.join(missing)} do not run; `analysis up --services-only` starts them")
        others = sorted(running.keys() - set(SERVERS))
        if others:
            raise StackUnfit(
                f"{', '.join(others)} run on this stack and would disturb; stop them with `analysis down`"
            )
        self._roots = {name: psutil.Process(running[name]) for name in SERVERS}

    def cpu_seconds(self, name: str | None = None) -> float:
        """CPU time so far of one of `SERVERS`, or of all."""
        roots = [self._roots[name]] if name else self._roots.values()
        return cpu_seconds(member for root in roots for member in (root, *root.children(recursive=True)))


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time of processes so far, with that of their children which have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
