"""What is done about a server that this stack has no record of; the server is another program of its name."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local.postgres import Postgres
from infra.settings import LocalSettings
from schemas.errors import AnalysisError
from tests.stack import temporary_folder

CALLED_POSTGRES = """
import pathlib, time
pathlib.Path("/proc/self/comm").write_text("postgres")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def root() -> Iterator[Path]:
    with temporary_folder() as made:
        (made / "postgres" / "data").mkdir(parents=True)
        yield made


def server(root: Path) -> Postgres:
    return Postgres(root / "postgres", LocalSettings(), "password")


def lock(root: Path, pid: int) -> Path:
    """The lock file of a server with this pid."""
    file = root / "postgres" / "data" / "postmaster.pid"
    file.write_text(f"{pid}\n/somewhere\n")
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process change its name like this")
def test_a_server_that_works_behind_a_link_is_found(root: Path) -> None:
    link = root / "link"
    link.symlink_to(root, target_is_directory=True)
    command = [sys.executable, "-c", CALLED_POSTGRES]
    with subprocess.Popen(command, cwd=root / "postgres" / "data", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        file = lock(root, running.pid)
        with pytest.raises(AnalysisError, match="already runs"):
            server(link).clean()
        assert running.poll() is None
        assert file.exists()
        running.kill()


def test_the_lock_of_a_process_that_ended_or_is_elsewhere_is_removed(root: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    for pid in (ended.pid, os.getpid()):
        file = lock(root, pid)
        server(root).clean()
        assert not file.exists()


def test_the_lock_of_a_process_that_cannot_be_seen_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    file = lock(root, os.getpid())
    monkeypatch.setattr(psutil.Process, "cwd", refused)
    server(root).clean()
    assert file.exists()
