"""Workers that outlive their supervisor are ended, and nobody else is."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.service import PROJECT, eventually

SUPERVISOR = """
import subprocess, sys, time
from consumers.analyzer.reaper import Reaper
reaper = Reaper(float(sys.argv[1]))
for seconds in ("0.1", "1000"):
    worker = subprocess.Popen(["sleep", seconds], start_new_session=True)
    reaper.watch(worker.pid)
print(worker.pid, reaper._process.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def orphan(request: pytest.FixtureRequest) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """A worker whose supervisor was killed, and the reaper."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(request.param)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        worker, reaper = (psutil.Process(int(pid)) for pid in supervisor.stdout.readline().split())
        supervisor.kill()
        yield worker, reaper
    for process in (worker, reaper):
        if process.is_running():
            process.kill()


@pytest.mark.parametrize("orphan", [1.0], indirect=True)
def test_a_worker_that_does_not_leave_by_itself_is_killed(
    orphan: tuple[psutil.Process, psutil.Process],
) -> None:
    worker, reaper = orphan
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    eventually(lambda: not reaper.is_running() or reaper.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("orphan", [1000.0], indirect=True)
def test_a_worker_has_time_to_leave_and_then_nobody_waits(
    orphan: tuple[psutil.Process, psutil.Process],
) -> None:
    worker, reaper = orphan
    time.sleep(1)
    assert worker.is_running()
    worker.terminate()
    eventually(lambda: not reaper.is_running() or reaper.status() == psutil.STATUS_ZOMBIE)


def test_it_ends_with_an_orderly_supervisor() -> None:
    script = SUPERVISOR.replace("time.sleep(1000)", "worker.kill(); worker.wait(); reaper.close()")
    done = subprocess.run(
        [sys.executable, "-c", script, "1000"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert not psutil.pid_exists(int(done.stdout.split()[1]))
