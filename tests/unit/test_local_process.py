import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from infra.local import process
from infra.local.process import Command, Record

TERM_ONLY = ((signal.SIGTERM, 10.0),)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Record]]:
    """Records of processes to end with the test, whatever it did with them."""
    records: list[Record] = []
    yield records
    for record in records:
        process.stop(record, ())


def run(code: str, tmp_path: Path, started: list[Record]) -> Record:
    command = Command(argv=(sys.executable, "-c", code), env={"PATH": os.defpath}, cwd=tmp_path)
    record = process.start(command, tmp_path / "log")
    started.append(record)
    return record


def wait_for_line(log: Path, text: str) -> str:
    deadline = time.monotonic() + 20
    while text not in (content := log.read_text()):
        assert time.monotonic() < deadline, f"{text!r} not in {content!r}"
        time.sleep(0.02)
    return content


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as stranger:
        yield stranger
        stranger.kill()


def test_a_started_process_has_a_session_of_its_own(tmp_path: Path, started: list[Record]) -> None:
    record = run("import time; print('here', flush=True); time.sleep(100)", tmp_path, started)
    wait_for_line(tmp_path / "log", "here")
    assert process.alive(record)
    assert os.getsid(record.pid) == record.pid != os.getsid(0)


def test_a_process_gets_the_given_environment_and_its_mark(tmp_path: Path, started: list[Record]) -> None:
    record = run("import os; print(sorted(os.environ.items()), 'end', flush=True)", tmp_path, started)
    content = wait_for_line(tmp_path / "log", "end")
    assert record.mark in content
    assert "HOME" not in content


def test_stop_lets_a_process_finish(tmp_path: Path, started: list[Record]) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_): print('finished', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(100)"
    )
    record = run(code, tmp_path, started)
    wait_for_line(tmp_path / "log", "ready")
    assert process.stop(record, TERM_ONLY)
    assert not process.alive(record)
    assert "finished" in (tmp_path / "log").read_text()


def test_stop_kills_a_process_that_does_not_listen(tmp_path: Path, started: list[Record]) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('ready', flush=True); time.sleep(100)"
    )
    record = run(code, tmp_path, started)
    wait_for_line(tmp_path / "log", "ready")
    assert not process.stop(record, ((signal.SIGTERM, 0.2),))
    assert not process.alive(record)


def test_stop_ends_the_children_of_a_process_that_was_killed(tmp_path: Path, started: list[Record]) -> None:
    code = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '100']); "
        "print('child', child.pid, 'ready', flush=True); time.sleep(100)"
    )
    record = run(code, tmp_path, started)
    child = psutil.Process(int(wait_for_line(tmp_path / "log", "ready").split()[1]))
    os.kill(record.pid, signal.SIGKILL)
    assert process.wait_end(record, 10)
    assert child.is_running()
    process.stop(record, TERM_ONLY)
    assert not child.is_running()


def test_a_process_that_has_the_pid_by_now_is_left_alone(foreign: subprocess.Popen[bytes]) -> None:
    record = Record(pid=foreign.pid, born="another boot 12345", mark="mark")
    assert not process.alive(record)
    assert process.usage(record) is None
    process.stop(record, TERM_ONLY)
    assert foreign.poll() is None


def test_a_session_of_strangers_is_left_alone(tmp_path: Path, started: list[Record]) -> None:
    # The leader is gone and its pid leads nowhere, but a stranger's session has its number.
    code = "import subprocess; print(subprocess.Popen(['sleep', '100']).pid, 'ready', flush=True)"
    record = run(code, tmp_path, started)
    child = psutil.Process(int(wait_for_line(tmp_path / "log", "ready").split()[0]))
    assert process.wait_end(record, 10)
    process.stop(msgspec.structs.replace(record, mark="of another start"), TERM_ONLY)
    assert child.is_running()


def test_a_zombie_does_not_live(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        born = process.birth(child.pid)
        assert born is not None
        child.kill()
        assert process.wait_end(Record(pid=child.pid, born=born, mark=""), 10)


def test_usage_counts_children(tmp_path: Path, started: list[Record]) -> None:
    code = (
        "import subprocess, sys, time; "
        "subprocess.Popen([sys.executable, '-c', "
        "'import time; kept = bytearray(50_000_000); print(\"ready\", flush=True); time.sleep(100)']); "
        "time.sleep(100)"
    )
    record = run(code, tmp_path, started)
    wait_for_line(tmp_path / "log", "ready")
    usage = process.usage(record)
    assert usage is not None
    assert usage.memory_bytes > 50_000_000


def test_a_large_log_is_set_aside(
    tmp_path: Path, started: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 10)
    (tmp_path / "log").write_text("an old log, too long to go on with\n")
    run("print('new', flush=True)", tmp_path, started)
    assert "old" not in wait_for_line(tmp_path / "log", "new")
    assert "old" in (tmp_path / "log.1").read_text()


def test_what_cannot_be_run_says_so(tmp_path: Path) -> None:
    command = Command(argv=(str(tmp_path / "nothing"),), env={}, cwd=tmp_path)
    with pytest.raises(OSError, match="nothing"):
        process.start(command, tmp_path / "log")
