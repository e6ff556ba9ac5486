"""A worker's process that hangs is ended, and how it ended is kept."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from consumers.analyzer.deaths import Deaths, Image, OutOfMemoryKills
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.watchdog import CRASHES_S, CrashBrake, Watchdog
from schemas.errors import ErrorCode
from tests.unit.test_analyzer_flight import task


def hold_for_ever(path: Path, timeout_s: float) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    FlightRecorder(path, 1, timeout_s).hold([task(2, 30, 1)])
    time.sleep(60)


@contextlib.contextmanager
def holding_for_ever(deaths: Deaths, timeout_s: float) -> Iterator[BaseProcess]:
    """A process in which one call does not return; afterwards it has ended."""
    process = multiprocessing.get_context("spawn").Process(
        target=hold_for_ever, args=(deaths.flight_path("w"), timeout_s)
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.timeout(60)
def test_a_call_that_does_not_return_ends_the_process_and_is_blamed(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    watchdog = Watchdog("worker-0", "w", deaths, OutOfMemoryKills())
    with holding_for_ever(deaths, 3.0) as process:
        now_s = 0.0
        while process.is_alive():
            watchdog.look(process, now_s)
            now_s += 0.5
            time.sleep(0.05)
    assert watchdog.note_end(process.exitcode or 0) == ErrorCode.MODULE_TIMEOUT
    found = deaths.of("w")
    assert found is not None
    assert (found.code, found.images) == (ErrorCode.MODULE_TIMEOUT, (Image(2, 30, 1),))


@pytest.mark.timeout(60)
def test_a_process_that_somebody_froze_does_not_hang(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    watchdog = Watchdog("worker-0", "w", deaths, OutOfMemoryKills())
    with holding_for_ever(deaths, 3.0) as process:
        while not deaths.flight_path("w").exists():
            time.sleep(0.05)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.2)
        for second in range(60):
            watchdog.look(process, float(second))
        assert process.is_alive()
    assert watchdog.note_end(process.exitcode or 0) is None


def test_what_cannot_be_kept_stops_nobody(tmp_path: Path) -> None:
    watchdog = Watchdog("worker-0", "w", Deaths(tmp_path / "removed"), OutOfMemoryKills())
    assert watchdog.note_end(-signal.SIGSEGV) == ErrorCode.MODULE_CRASHED


def test_crashes_are_borne_up_to_a_limit_within_a_while() -> None:
    brake = CrashBrake(3)
    assert not any(brake.count(float(second)) for second in range(3))
    assert brake.count(3.0)
    assert not CrashBrake(3).count(0.0)
    spread = CrashBrake(3)
    assert not any(spread.count(number * CRASHES_S / 2) for number in range(20))
    unlimited = CrashBrake(0)
    assert not any(unlimited.count(0.0) for _ in range(1000))
