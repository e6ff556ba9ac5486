"""The README's commands, run as they stand there, on a stack of the test's own."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.service import PROJECT
from tests.stack import environment, free_ports, guarded, temporary_folder

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def demo() -> Iterator[dict[str, str]]:
    """The environment of a stack where `make demo` has run; what it printed is under `DEMO`."""
    with temporary_folder() as root, environment(free_ports(root)), guarded(root):
        printed = run("make demo", os.environ)
        yield {**os.environ, "DEMO": printed}


def run(script: str, given: Mapping[str, str], timeout_s: float = 240) -> str:
    """Runs a block of the README with the addresses and the folder of this test's stack."""
    local = given["LOCAL_DIR"]
    script = script.replace("127.0.0.1:29092", f"127.0.0.1:{given['LOCAL_KAFKA_PORT']}")
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{given['LOCAL_GATEWAY_PORT']}")
    script = script.replace(".local/", f"{local}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=PROJECT,
        env={**given, "XDG_STATE_HOME": f"{local}/state", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(300)
def test_make_demo_shows_every_sample_with_its_answer(demo: dict[str, str]) -> None:
    local = Path(demo["LOCAL_DIR"])
    samples = [path.name for path in (local / "demo" / "samples").iterdir()]
    assert len(samples) >= 8
    for name in samples:
        assert name in demo["DEMO"]
    assert "image_corrupt" in demo["DEMO"]
    assert len(list((local / "demo").glob("*.faces.png"))) == len(samples) - 1


@pytest.mark.timeout(300)
def test_the_tour_works_as_written(demo: dict[str, str]) -> None:
    tour = [block for block in blocks("sh") if "make demo" not in block]
    if shutil.which("kcat") is None:
        tour = [block for block in tour if "kcat" not in block]
    assert tour
    activate = "source .venv/bin/activate\n"
    printed = "".join(run(activate + block, demo) for block in tour)
    assert "kafka" in printed
    assert "face" in printed
    assert "image_corrupt" in printed
    assert "dummy" in printed


def test_the_python_example_finds_the_portraits(demo: dict[str, str]) -> None:
    (example,) = blocks("python")
    printed = run(f".venv/bin/python - <<'PYTHON'\n{example}\nPYTHON", demo)
    assert len(printed.splitlines()) >= 6
    assert "Box(" in printed


@pytest.mark.timeout(120)
def test_make_down_leaves_no_process(demo: dict[str, str]) -> None:
    assert processes_of(demo["LOCAL_DIR"])
    run("make down", demo)
    assert processes_of(demo["LOCAL_DIR"]) == []


def test_the_links_lead_somewhere() -> None:
    documents = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def processes_of(local_dir: str) -> list[str]:
    """Command lines of processes that belong to the stack in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LOCAL_DIR") == local_dir or local_dir in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    own = {" ".join(psutil.Process().cmdline())}
    return [line for line in found if line not in own and "tests.stack" not in line]
