"""Ends workers that outlive their supervisor.

A worker hears that its supervisor is gone and leaves, unless a call into the module holds Python's lock:
then nothing in it runs, while Kafka's client keeps its place in the group. So a small process of its own
waits for the supervisor's end, however that comes, and kills what is still there some time after it.
"""

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time

logger = logging.getLogger(__name__)

LOOK_S = 0.2


class Reaper:
    """The supervisor's side: names the workers.

    Args:
        patience_s: how long workers may take to leave by themselves, once the supervisor is gone.
    """

    def __init__(self, patience_s: float) -> None:
        # As a script: it needs nothing of ours, and starts in a few milliseconds.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(patience_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def watch(self, pid: int) -> None:
        """Adds a worker."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"%d\n" % pid)
            self._process.stdin.flush()
        except OSError as error:
            logger.warning("nobody will end the workers should this process be killed: %s", error)

    def close(self) -> None:
        """Ends it; the workers have ended before."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def _main(patience_s: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    workers: dict[int, int] = {}
    for line in sys.stdin:
        # Those that have ended meanwhile may have given their numbers to strangers.
        workers = {pid: handle for pid, handle in workers.items() if _alive(pid, handle)}
        with contextlib.suppress(ProcessLookupError):
            workers[int(line)] = _handle(int(line))
    deadline = time.monotonic() + patience_s
    while workers and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        workers = {pid: handle for pid, handle in workers.items() if _alive(pid, handle)}
    for pid, handle in workers.items():
        _send(pid, handle, signal.SIGKILL)


def _handle(pid: int) -> int:
    """What names this very process; -1 where only its number does."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1


def _alive(pid: int, handle: int) -> bool:
    if handle < 0:
        return _send(pid, handle, 0)
    # Readable once it has ended, whether or not its parent has taken note of that.
    ended, _, _ = select.select([handle], [], [], 0)
    if ended:
        os.close(handle)
    return not ended


def _send(pid: int, handle: int, number: int) -> bool:
    try:
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _main(float(sys.argv[1]))
