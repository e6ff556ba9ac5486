"""Processes that outlive the command that started them: known by pid and moment of birth, never confused.

A pid alone is not enough: after a reboot, or when pids wrap around, it may be somebody else's.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil

from schemas.errors import AnalysisError, ErrorCode

MARK = "ANALYSIS_STACK_PROCESS"
"""Environment variable that names the start of which a process and its children are part."""

LOG_LIMIT_BYTES = 16 * 2**20
"""A log larger than this is set aside (as `….log.1`) when its process starts."""


class User(msgspec.Struct, frozen=True):
    """Whom a process runs as."""

    uid: int
    gid: int


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: the whole environment, and another user where root must not run it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    user: User | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a process that was started; `born` tells it from a later one with its pid."""

    pid: int
    born: str
    mark: str
    ports: tuple[int, ...] = ()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """A living process and its children, in numbers."""

    started_at: datetime
    memory_bytes: int


def start(command: Command, log: Path, ports: Sequence[int] = ()) -> Record:
    """Starts a process in a session of its own, so that no terminal's Ctrl-C or hang-up reaches it.

    Raises:
        OSError: the program cannot be run.
    """
    mark = uuid.uuid4().hex
    _set_aside(log)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**command.env, MARK: mark},
            cwd=command.cwd,
            start_new_session=True,
            **_user_arguments(command.user),
        )
    # From here on it is watched by its record; Popen would warn that it still runs when we end.
    child.returncode = 0
    return Record(pid=child.pid, born=birth(child.pid) or "ended", mark=mark, ports=tuple(ports))


def run_to_end(command: Command, what: str, timeout_s: float) -> None:
    """Runs a program that prepares something, undisturbed by Ctrl-C, and waits for its end.

    Raises:
        AnalysisError: it failed, or took longer than `timeout_s`; its output is in the message.
    """
    try:
        done = subprocess.run(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=command.env,
            cwd=command.cwd,
            text=True,
            timeout=timeout_s,
            start_new_session=True,
            check=False,
            **_user_arguments(command.user),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AnalysisError(ErrorCode.STACK_START_FAILED, f"{what} cannot be run: {error}") from None
    if done.returncode:
        raise AnalysisError(ErrorCode.STACK_START_FAILED, f"{what} failed: {done.stdout.strip()}")


def birth(pid: int) -> str | None:
    """The moment a living process began; None where there is none (a zombie does not live).

    On Linux it is the boot and the clock tick, which do not move when the system's clock is set.
    """
    _reap(pid)
    try:
        if sys.platform == "linux":
            state, threads, tick = _linux_status(pid)
            # A killed process is a zombie already while its other threads still hold its ports and files.
            return None if state in "ZX" and threads <= 1 else f"{_boot_id()} {tick}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}"
    except (OSError, psutil.Error):
        return None


def alive(record: Record) -> bool:
    """Whether the very process of the record still runs."""
    return birth(record.pid) == record.born


def usage(record: Record) -> Usage | None:
    """Memory of the process and its children together; None where it does not run."""
    if not alive(record):
        return None
    try:
        leader = psutil.Process(record.pid)
        members = [leader, *leader.children(recursive=True)]
        started = datetime.fromtimestamp(leader.create_time(), UTC)
    except psutil.Error:
        return None
    return Usage(started_at=started, memory_bytes=sum(map(_memory_bytes, members)))


def stop(record: Record, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Sends each signal and waits its seconds, then kills; True if the process ended before the kill.

    Children that outlive their parent are ended as well. Never touches a process that is not the record's.
    """
    for number, patience_s in steps:
        if not alive(record):
            break
        with contextlib.suppress(psutil.Error):
            psutil.Process(record.pid).send_signal(number)
        wait_end(record, patience_s)
    in_time = not alive(record)
    if not in_time:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(record.pid, signal.SIGKILL)
        wait_end(record, 10.0)
    kill_all(orphans(record))
    return in_time


def wait_end(record: Record, timeout_s: float) -> bool:
    """Waits until the process has ended; False if it still runs after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while alive(record):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def orphans(record: Record) -> Iterator[psutil.Process]:
    """Living members of the session that the record's process began, once it has ended itself."""
    if alive(record):
        return
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == record.pid and process.environ().get(MARK) == record.mark:
                yield process


def kill_all(processes: Iterator[psutil.Process] | Sequence[psutil.Process]) -> None:
    """Kills processes at once and waits until they are gone, 10 s at most."""
    doomed = list(processes)
    for process in doomed:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(doomed, timeout=10)


def _user_arguments(user: User | None) -> dict[str, Any]:
    return {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}


def _reap(pid: int) -> None:
    # A process that this very process started stays a zombie until somebody asks for its exit status.
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)


def _linux_status(pid: int) -> tuple[str, int, str]:
    # The fields after the program's name, which may have blanks and brackets in it; see proc_pid_stat(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[17]), fields[19]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _memory_bytes(process: psutil.Process) -> int:
    # PSS counts a page shared by several processes once, RSS in each of them: PostgreSQL shares most.
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _set_aside(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_name(log.name + ".1"))
