"""An upload that is interrupted and run again sends each file exactly once."""

import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from infra.exit_codes import ExitCode
from infra.settings import KafkaSettings
from tests.images import jpeg
from tests.producer_support import (
    PROJECT,
    answering,
    command,
    environment,
    eventually,
    lines,
    ok,
    own_topics,
    requests,
    run,
)
from tests.stack import RunningStack

FILES = 120
HALF = FILES // 2
THREADS = 2
ENDLESS_BYTES = 2**42
"""Zeros that take no room on disk, and half an hour to read."""


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaSettings:
    """Topics of this test's own."""
    return own_topics(stack.kafka)


@pytest.fixture
def env(kafka: KafkaSettings, tmp_path: Path) -> dict[str, str]:
    """What leads a command to these topics."""
    return environment(kafka, tmp_path / "state")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of many images with different content."""
    folder = tmp_path / "photos"
    folder.mkdir()
    image = jpeg()
    for number in range(FILES):
        (folder / f"{number:04}.jpg").write_bytes(image + number.to_bytes(4))
    return folder


def interrupt(env: dict[str, str], photos: Path, number: signal.Signals, after_lines: int = HALF) -> int:
    """Runs the upload, and signals it once it has said that so many files are sent.

    Half-way lie files that nobody reads to their end, one for each thread: no upload comes further.
    """
    blocked = sorted(photos.iterdir())[HALF : HALF + THREADS]
    kept = [path.read_bytes() for path in blocked]
    for path in blocked:
        os.truncate(path, ENDLESS_BYTES)
    process = subprocess.Popen(
        command("upload", str(photos), "--concurrency", str(THREADS)),
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process:
        for _ in range(after_lines):
            assert process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=30)
    for path, content in zip(blocked, kept, strict=True):
        path.write_bytes(content)
    return process.returncode


def assert_each_sent_once(kafka: KafkaSettings, photos: Path) -> None:
    sent = Counter(request.attributes["file"] for request in requests(kafka))
    assert sent == Counter(str(path) for path in photos.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way(
    kafka: KafkaSettings, env: dict[str, str], photos: Path, number: signal.Signals
) -> None:
    assert interrupt(env, photos, number) == ExitCode.INTERRUPTED
    assert len(requests(kafka)) == HALF
    ended = run(env, "upload", str(photos))
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert f"continuing an interrupted upload: {HALF} were sent" in ended.stderr
    statuses = Counter(record["status"] for record in lines(ended.stdout))
    assert statuses == {"already_sent": HALF, "sent": FILES - HALF}
    assert_each_sent_once(kafka, photos)


def test_killed_again_and_again(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    choose = random.Random(7)
    for _ in range(4):
        interrupt(env, photos, signal.SIGKILL, after_lines=choose.randrange(1, HALF))
    ended = run(env, "upload", str(photos))
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert_each_sent_once(kafka, photos)


def test_requests_in_doubt_are_looked_for_on_the_topic(
    kafka: KafkaSettings, env: dict[str, str], photos: Path
) -> None:
    interrupt(env, photos, signal.SIGKILL)
    (journal,) = Path(env["XDG_STATE_HOME"]).rglob("*.jsonl")
    kept = [line for line in journal.read_bytes().splitlines() if b'"type":"sent"' not in line]
    journal.write_bytes(b"\n".join(kept) + b'\n{"type":"sen')
    ended = run(env, "upload", str(photos))
    assert ended.returncode == ExitCode.OK, ended.stderr
    statuses = Counter(record["status"] for record in lines(ended.stdout))
    assert statuses == {"already_sent": HALF, "sent": FILES - HALF}
    assert_each_sent_once(kafka, photos)


def test_answers_to_what_an_earlier_run_sent_are_found(
    kafka: KafkaSettings, env: dict[str, str], photos: Path
) -> None:
    with answering(kafka, ok):
        interrupt(env, photos, signal.SIGINT)
        ended = run(env, "upload", str(photos), "--wait", "--timeout", "20")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert len(lines(ended.stdout)) == FILES
    assert {record["status"] for record in lines(ended.stdout)} == {"ok"}
    assert_each_sent_once(kafka, photos)


def test_a_file_that_was_written_anew_is_sent_again(
    kafka: KafkaSettings, env: dict[str, str], photos: Path
) -> None:
    interrupt(env, photos, signal.SIGINT)
    earliest = Path(requests(kafka)[0].attributes["file"])
    earliest.write_bytes(jpeg(colour=(1, 2, 3)))
    touched = Path(requests(kafka)[1].attributes["file"])
    os.utime(touched, (1, 1))
    assert run(env, "upload", str(photos)).returncode == ExitCode.OK
    sent = Counter(request.attributes["file"] for request in requests(kafka))
    assert {path for path, count in sent.items() if count == 2} == {str(earliest)}


def test_restart_sends_all_again(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    interrupt(env, photos, signal.SIGINT)
    before = len(requests(kafka))
    assert run(env, "upload", str(photos), "--restart").returncode == ExitCode.OK
    assert len(requests(kafka)) == before + FILES


def test_the_same_upload_cannot_run_twice_at_once(
    kafka: KafkaSettings, env: dict[str, str], photos: Path
) -> None:
    arguments = ("upload", str(photos / "0000.jpg"), "--wait")
    first = subprocess.Popen(
        command(*arguments), cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with first:
        eventually(lambda: requests(kafka))
        second = run(env, *arguments)
        first.send_signal(signal.SIGINT)
        assert first.wait(30) == ExitCode.INTERRUPTED
    assert second.returncode == ExitCode.USAGE
    assert "runs already" in second.stderr
    assert len(requests(kafka)) == 1
