"""What is on record when a worker dies, and what its supervisor makes of it."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.analyzer.deaths import Deaths, Image, OutOfMemoryKills, blame
from consumers.analyzer.flight import Flight, FlightRecorder, HangWatch, Held, LoopWatch, read_flight
from consumers.analyzer.window import Found, PartitionWindow, Task
from infra.exit_codes import ExitCode
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, RecordPosition, Request

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def task(partition: int, offset: int, index: int = 0) -> Task:
    request = Request(version=1, request_id="r", image=ImageReference("b", "k"))
    source = RecordPosition("id", "t", partition, offset, NOW).at(index)
    return Task(request, None, source, PartitionWindow("t", partition), Found("k"), offset)


def places(path: Path) -> set[tuple[int, int, int]]:
    flight = read_flight(path)
    assert flight is not None
    return {(held.partition, held.offset, held.index) for held in flight.held}


def test_what_is_held_is_on_record_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "w.flight"
    recorder = FlightRecorder(path, 3, 60)
    first, second, third = task(1, 2**40), task(2, 5, 7), task(0, 0)
    recorder.hold([first, second])
    recorder.hold([third])
    assert places(path) == {(1, 2**40, 0), (2, 5, 7), (0, 0, 0)}
    recorder.release([first, third])
    assert places(path) == {(2, 5, 7)}
    recorder.hold([first, third])
    recorder.release([first, second, third])
    assert places(path) == set()


def test_the_record_of_a_killed_process_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.flight"
    code = f"""
import os, signal
from pathlib import Path
from consumers.analyzer.flight import FlightRecorder
from tests.unit.test_analyzer_flight import task
recorder = FlightRecorder(Path({str(path)!r}), 2, 60)
recorder.hold([task(4, 44), task(5, 55)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert places(path) == {(4, 44, 0), (5, 55, 0)}
    flight = read_flight(path)
    assert flight is not None
    assert not flight.ended_itself


def test_nothing_is_read_from_what_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "w.flight").write_bytes(b"something else altogether")
    assert read_flight(tmp_path / "w.flight") is None
    assert read_flight(tmp_path / "absent") is None


def held(serial: int) -> Flight:
    return Flight(False, 10.0, 0.0, (Held(serial, 0, 1, 0),))


def test_one_call_that_lasts_too_long_hangs() -> None:
    watch = HangWatch()
    assert [bool(watch.look(held(7), float(now))) for now in range(13)] == [False] * 11 + [True] * 2


def test_many_calls_in_a_row_do_not_hang() -> None:
    watch = HangWatch()
    assert not any(watch.look(held(now), float(now)) for now in range(100))


def test_time_in_which_the_supervisor_could_not_look_makes_nobody_hang() -> None:
    watch = HangWatch()
    watch.look(held(7), 0.0)
    assert not watch.look(held(7), 3600.0)


def beaten(at_s: float) -> Flight:
    return Flight(False, 10.0, at_s, ())


def test_a_main_loop_that_is_silent_for_long_is_stuck() -> None:
    watch = LoopWatch(patience_s=5)
    assert [watch.look(beaten(1.0), 0.0, float(now)) for now in range(8)] == [False] * 6 + [True] * 2
    assert not watch.look(beaten(7.0), 0.0, 8.0)


@pytest.mark.parametrize("flight", [Flight(False, 10.0, 0.0, ()), Flight(True, 10.0, 5.0, ())])
def test_a_loop_that_has_not_begun_or_has_ended_is_not_stuck(flight: Flight) -> None:
    watch = LoopWatch(patience_s=5)
    assert not any(watch.look(flight, 0.0, float(now)) for now in range(60))


def test_a_loop_that_a_call_keeps_is_for_the_calls_own_time_out() -> None:
    watch = LoopWatch(patience_s=5)
    assert not any(watch.look(beaten(1.0), float(now), float(now)) for now in range(60))
    watch = LoopWatch(patience_s=5)
    assert any(watch.look(beaten(1.0), 1.0, float(now)) for now in range(60)), "calls come and go meanwhile"


def test_a_loop_is_not_stuck_because_nobody_looked() -> None:
    watch = LoopWatch(patience_s=5)
    watch.look(beaten(1.0), 0.0, 0.0)
    assert not watch.look(beaten(1.0), 0.0, 3600.0)


def ran(*, ended_itself: bool) -> Flight:
    return Flight(ended_itself, 60.0, 0.0, ())


@pytest.mark.parametrize(
    ("status", "ended_itself", "hung", "out_of_memory", "code"),
    [
        (-signal.SIGSEGV, False, False, False, ErrorCode.MODULE_CRASHED),
        (-signal.SIGABRT, False, False, False, ErrorCode.MODULE_CRASHED),
        (-signal.SIGKILL, False, False, True, ErrorCode.MODULE_CRASHED),
        (-signal.SIGKILL, False, False, False, None),
        (-signal.SIGKILL, False, True, False, ErrorCode.MODULE_TIMEOUT),
        (-signal.SIGTERM, False, False, False, None),
        (3, False, False, False, ErrorCode.MODULE_CRASHED),
        (0, False, False, False, ErrorCode.MODULE_CRASHED),
        (ExitCode.CRASHED, True, False, False, None),
        (ExitCode.DEVICE, True, False, False, None),
        (ExitCode.DRAIN_TIMEOUT, False, False, False, None),
    ],
)
def test_only_what_a_worker_did_to_itself_is_blamed(
    status: int, ended_itself: bool, hung: bool, out_of_memory: bool, code: ErrorCode | None
) -> None:
    flight = ran(ended_itself=ended_itself)
    assert blame(status, flight, hung=hung, out_of_memory=out_of_memory) == code


def test_a_death_replaces_the_record_and_names_what_was_held(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    recorder = FlightRecorder(deaths.flight_path("w"), 2, 60)
    recorder.hold([task(1, 10), task(1, 11, 2)])
    noted = deaths.record("w", ErrorCode.MODULE_CRASHED, "signal 11, SIGSEGV")
    assert set(noted.images) == {Image(1, 10, 0), Image(1, 11, 2)}
    assert deaths.of("w") == noted
    assert not deaths.flight_path("w").exists()
    assert deaths.of("another") is None


def test_of_a_worker_that_left_no_word_what_it_held_is_known(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    recorder = FlightRecorder(deaths.flight_path("w"), 2, 60)
    recorder.hold([task(1, 10)])
    found = deaths.of("w")
    assert found is not None
    assert (found.code, found.images) == (None, (Image(1, 10, 0),))


def test_old_deaths_are_removed_and_records_of_the_living_are_not(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    recorder = FlightRecorder(deaths.flight_path("alive"), 1, 60)
    deaths.record("old", None, "killed")
    deaths.record("new", None, "killed")
    (tmp_path / "0.lock").touch()
    long_ago = time.time() - 7 * 86400
    for name in ("alive.flight", "old.death.json", "0.lock"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    deaths.tidy()
    assert {path.name for path in tmp_path.iterdir()} == {"alive.flight", "new.death.json", "0.lock"}
    recorder.end()


def test_kills_for_want_of_memory_are_news_for_a_while(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 5\noom_kill 2\n")
    kills = OutOfMemoryKills(counters)
    assert not kills.recent(10)
    counters.write_text("nr_free_pages 5\noom_kill 3\n")
    kills.look(20)
    assert kills.recent(21)
    assert kills.recent(22), "one that took two workers with it is news for both"
    assert not kills.recent(60)
