"""The servers of the tests' stack, as faults treat them."""

import contextlib
import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator

from infra.local import process
from infra.local.launch import launch
from infra.local.stack import local_stack

BALLAST_STEP = 4096
PATIENCE_S = 30.0


def kafka_names() -> list[str]:
    """The brokers' names."""
    return [server.name for server in local_stack().servers if server.name.startswith("kafka")]


def pid(name: str) -> int:
    """A server's process."""
    record = local_stack().folder.record(name)
    assert record is not None
    return record.pid


def kill(name: str) -> None:
    """Ends a server with SIGKILL, and leaves it so."""
    record = local_stack().folder.record(name)
    assert record is not None
    process.stop(record, ((signal.SIGKILL, PATIENCE_S),))


def restart(name: str, number: signal.Signals, pause_s: float = 0.0) -> None:
    """Ends a server with a signal, and returns as soon as it answers again."""
    record = local_stack().folder.record(name)
    # There is none where the last start failed.
    if record is not None:
        process.stop(record, ((number, PATIENCE_S),))
        time.sleep(pause_s)
    start(name)


def start(name: str) -> None:
    """Makes sure that a server runs and answers."""
    stack = local_stack()
    (component,) = (server for server in stack.servers if server.name == name)
    launch(component, stack.folder, threading.Event())


def has_a_disk_of_its_own(name: str) -> bool:
    """Whether filling a server's disk harms nobody else."""
    return local_stack().folder.data(name).is_mount()


@contextlib.contextmanager
def full_disk(name: str) -> Iterator[None]:
    """No byte is left on a server's disk as long as it is entered; afterwards it runs again."""
    folder = local_stack().folder.data(name)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        try:
            while (free := shutil.disk_usage(folder).free) >= BALLAST_STEP:
                _allocate(file.fileno(), free)
            yield
        finally:
            ballast.unlink()
    start(name)


def _allocate(descriptor: int, size: int) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        os.posix_fallocate(descriptor, end, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Somebody else has taken some of it.
