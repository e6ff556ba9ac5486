"""Why a worker died, kept for whoever takes its partitions over."""

import contextlib
import fcntl
import signal
import time
from pathlib import Path

import msgspec

from consumers.analyzer.flight import Flight, read_flight
from infra.exit_codes import ExitCode
from schemas.errors import ErrorCode

KEPT_S = 24 * 3600.0
_FLIGHT = ".flight"
_DEATH = ".death.json"

_CRASHES = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSYS,
        signal.SIGTRAP,
        signal.SIGXCPU,
    }
)
"""Signals that a process brings upon itself; others come from outside and blame nothing."""


class Image(msgspec.Struct, frozen=True, array_like=True):
    """An image's place in the images topic."""

    partition: int
    offset: int
    index: int


class Death(msgspec.Struct, frozen=True):
    """How a worker ended."""

    code: ErrorCode | None
    """`module_crashed` or `module_timeout`; None where the worker was killed, or nobody knows by whom."""
    reason: str
    images: tuple[Image, ...]
    """What was being decoded, prepared or inferred."""


class Deaths:
    """The records and the deaths of this machine's workers, in a folder that its supervisors share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def flight_path(self, owner: str) -> Path:
        """Where a worker keeps its record."""
        return self._folder / (owner + _FLIGHT)

    def record(self, owner: str, code: ErrorCode | None, reason: str) -> Death:
        """Keeps how a worker died, in place of its record."""
        flight = read_flight(self.flight_path(owner))
        death = Death(code, reason, _images(flight) if flight is not None else ())
        path = self._folder / (owner + _DEATH)
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(death))
        draft.replace(path)
        self.forget(owner)
        return death

    def forget(self, owner: str) -> None:
        """Removes the record of a worker that ended in order."""
        with contextlib.suppress(OSError):
            self.flight_path(owner).unlink()

    def of(self, owner: str) -> Death | None:
        """How a worker died; None where this machine does not know."""
        try:
            return msgspec.json.decode((self._folder / (owner + _DEATH)).read_bytes(), type=Death)
        except (OSError, msgspec.DecodeError):
            pass
        flight = read_flight(self.flight_path(owner))
        if flight is None:
            return None
        return Death(None, "it left no word", _images(flight))

    def tidy(self) -> None:
        """Removes what is older than a day, but for the records of workers that live."""
        oldest = time.time() - KEPT_S
        for path in self._folder.glob("*.*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                if path.suffix != ".lock" and path.stat().st_mtime < oldest:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    path.unlink()


def _images(flight: Flight) -> tuple[Image, ...]:
    return tuple(Image(held.partition, held.offset, held.index) for held in flight.held)


class OutOfMemoryKills:
    """Notices when the kernel kills processes of this machine for want of memory."""

    RECENT_S = 5.0

    def __init__(self, path: Path = Path("/proc/vmstat")) -> None:
        self._path = path
        self._seen = self._count()
        self._at_s: float | None = None

    def look(self, now_s: float) -> None:
        """Looks again; often enough, so that a kill is known when it happens."""
        before, self._seen = self._seen, self._count()
        if self._seen > before:
            self._at_s = now_s

    def recent(self, now_s: float) -> bool:
        """Whether there was one just now."""
        self.look(now_s)
        return self._at_s is not None and now_s - self._at_s <= self.RECENT_S

    def _count(self) -> int:
        try:
            lines = self._path.read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        counts = dict(line.split(" ", 1) for line in lines)
        return int(counts.get("oom_kill", 0))


def blame(status: int, flight: Flight | None, *, hung: bool, out_of_memory: bool) -> ErrorCode | None:
    """The code of what a worker's own work did to it; None where somebody else ended it, or it itself.

    Args:
        status: the exit status, negative for a signal.
        hung: whether its supervisor ended it because a call did not return.
        out_of_memory: whether the kernel has killed a process for want of memory.
    """
    if hung:
        return ErrorCode.MODULE_TIMEOUT
    if status < 0:
        crashed = -status in _CRASHES or (-status == signal.SIGKILL and out_of_memory)
        return ErrorCode.MODULE_CRASHED if crashed else None
    if flight is None or flight.ended_itself or status == ExitCode.DRAIN_TIMEOUT:
        return None
    return ErrorCode.MODULE_CRASHED  # os._exit() in a module's own code, say


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal or a debugger."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")


def describe(status: int) -> str:
    """A process's exit status in words."""
    kind, number = ("signal", -status) if status < 0 else ("exit code", status)
    try:
        name = signal.Signals(number).name if status < 0 else ExitCode(number).name.lower()
    except ValueError:
        return f"{kind} {number}"
    return f"{kind} {number}, {name}"
