"""Starting and stopping, with a small web server in the place of a large one."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import ports, process
from infra.local.component import LOOPBACK, Component, Port, minimal_environment
from infra.local.launch import StartFailed, halt, inspect, launch
from infra.local.process import Command, Record
from infra.local.state import StackFolder
from schemas.errors import AnalysisError, ErrorCode
from tests.stack import free_ports

WEB = """
import http.server, sys
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


class Web(Component):
    """A server that starts in no time, or does what `code` says."""

    def __init__(self, port: int, code: str = WEB) -> None:
        super().__init__("web", f"http://{LOOPBACK}:{port}", (Port(port, "LOCAL_WEB_PORT"),))
        self.cleaned = 0
        self._code = code

    def clean(self) -> None:
        self.cleaned += 1

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def command(self) -> Command:
        argv = (sys.executable, "-u", "-c", self._code, str(self.ports[0].number))
        return Command(argv=argv, env=minimal_environment(), cwd=Path("/"))

    def ready(self) -> bool:
        return ports.answers(self.ports[0].number)


@pytest.fixture
def port(tmp_path: Path) -> int:
    return int(free_ports(tmp_path)["LOCAL_POSTGRES_PORT"])


@pytest.fixture
def folder(tmp_path: Path, port: int) -> Iterator[StackFolder]:
    made = StackFolder(tmp_path)
    made.create()
    yield made
    halt(Web(port), made)


def start(component: Component, folder: StackFolder) -> Record:
    launch(component, folder, threading.Event())
    record = folder.record(component.name)
    assert record is not None
    return record


def test_a_component_is_started_once(folder: StackFolder, port: int) -> None:
    first = start(Web(port), folder)
    assert start(Web(port), folder) == first
    state = inspect(Web(port), folder)
    assert (state.state, state.pid) == ("ready", first.pid)
    assert state.memory_bytes is not None
    assert state.memory_bytes > 1_000_000


def test_halting_ends_it_once(folder: StackFolder, port: int) -> None:
    record = start(Web(port), folder)
    assert halt(Web(port), folder)
    assert not process.alive(record)
    assert not halt(Web(port), folder)
    assert inspect(Web(port), folder).state == "stopped"


def test_one_that_died_is_cleaned_up_and_started_again(folder: StackFolder, port: int) -> None:
    first = start(Web(port), folder)
    process.stop(first, ())
    assert inspect(Web(port), folder).state == "died"
    component = Web(port)
    assert start(component, folder).pid != first.pid
    assert component.cleaned == 1


def test_a_stale_record_leads_to_a_new_process(folder: StackFolder, port: int) -> None:
    with subprocess.Popen(["sleep", "100"]) as stranger:
        folder.keep("web", Record(pid=stranger.pid, born="an earlier boot", mark="", ports=(port,)))
        assert start(Web(port), folder).pid != stranger.pid
        halt(Web(port), folder)
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_is_explained_and_nothing_started_or_removed(folder: StackFolder, port: int) -> None:
    component = Web(port)
    with socket.create_server((LOOPBACK, port)), pytest.raises(ports.PortTaken) as caught:
        start(component, folder)
    for part in (str(port), "web", f"process {os.getpid()} (", "LOCAL_WEB_PORT"):
        assert part in caught.value.message
    assert folder.record("web") is None
    assert component.cleaned == 0


def test_one_that_ends_at_once_shows_its_log(folder: StackFolder, port: int) -> None:
    code = "import sys; [print('line', n) for n in range(100)]; sys.exit('the reason')"
    with pytest.raises(StartFailed, match="web ended while it started") as caught:
        start(Web(port, code), folder)
    assert "the reason" in caught.value.message
    assert "line 5\n" not in caught.value.message
    assert folder.record("web") is None


def test_one_that_never_answers_is_stopped(
    folder: StackFolder, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Web, "start_timeout_s", 0.3)
    with pytest.raises(StartFailed, match="was not ready"):
        start(Web(port, "import time; print('waiting'); time.sleep(100)"), folder)
    assert folder.record("web") is None


def test_an_interrupted_start_leaves_no_process(folder: StackFolder, port: int) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StartFailed, match="interrupted"):
        launch(Web(port, "import time; time.sleep(100)"), folder, cancelled)
    assert folder.record("web") is None


def test_a_program_that_is_missing_is_an_error_of_the_stack(
    folder: StackFolder, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    with pytest.raises(StartFailed, match="/does/not/exist") as caught:
        start(Web(port), folder)
    assert caught.value.code == ErrorCode.STACK_START_FAILED


def test_another_port_while_it_runs_is_refused(folder: StackFolder, port: int) -> None:
    record = start(Web(port), folder)
    with pytest.raises(AnalysisError, match="analysis down") as caught:
        start(Web(port + 1), folder)
    assert caught.value.code == ErrorCode.USAGE
    assert process.alive(record)
