"""`analysis demo` as a process, with a real analyzer and a real sink."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from infra.exit_codes import ExitCode
from infra.settings import KafkaSettings
from tests.producer_support import PROJECT, command, environment, own_topics, run
from tests.stack import RunningStack, unique


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaSettings:
    """Topics of this test's own."""
    return own_topics(stack.kafka, partitions=2)


@pytest.fixture
def env(kafka: KafkaSettings, tmp_path: Path) -> dict[str, str]:
    """What leads each process to these topics."""
    return {**environment(kafka, tmp_path / "state"), "SINK_GROUP_ID": unique("sink")}


@contextlib.contextmanager
def running(env: dict[str, str], log: Path, *arguments: str) -> Iterator[None]:
    """A component that runs while the block does; its log is shown when the block raises."""
    with log.open("wb") as output:
        process = subprocess.Popen(command(*arguments), cwd=PROJECT, env=env, stdout=output, stderr=output)
    try:
        yield
    except BaseException:
        print(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_every_image_has_its_row_and_picture(env: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with (
        running(env, tmp_path / "analyzer.log", "analyzer", "--module", "dummy", "--workers", "1"),
        running(env, tmp_path / "sink.log", "sink"),
    ):
        ended = run(env, "demo", "--out", str(out), "--timeout", "60")
        assert ended.returncode == ExitCode.OK, ended.stdout + ended.stderr
    samples = {path.name for path in (out / "samples").iterdir()}
    assert all(name in ended.stdout for name in samples)
    assert "image_corrupt" in ended.stdout
    assert str(out) in ended.stdout
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {f"{Path(name).stem}.dummy.png" for name in samples - {"broken.jpg"}}
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()


def test_what_has_no_row_is_named(env: dict[str, str], tmp_path: Path) -> None:
    ended = run(env, "demo", "--out", str(tmp_path / "demo"), "--timeout", "1")
    assert ended.returncode == ExitCode.FAILED
    assert "no row in PostgreSQL after 1 s for: astronaut.jpg" in ended.stderr
    assert "analysis status" in ended.stderr
    assert "no row" in ended.stdout


def test_without_a_database_nothing_is_sent(env: dict[str, str], tmp_path: Path) -> None:
    nowhere = {**env, "DATABASE_URL": "postgresql://app@127.0.0.1:1/analysis"}
    ended = run(nowhere, "demo", "--out", str(tmp_path / "demo"))
    assert ended.returncode == ExitCode.UNAVAILABLE
    assert ended.stderr.startswith("error [database_unavailable]")
