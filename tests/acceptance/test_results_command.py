"""`analysis results` as a process."""

import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.exit_codes import ExitCode
from infra.settings import KafkaSettings
from schemas.messages import ImageReference, Request
from tests.producer_support import (
    PROJECT,
    command,
    environment,
    failed,
    lines,
    ok,
    own_topics,
    publish,
    run,
)
from tests.stack import RunningStack


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaSettings:
    """Topics of this test's own, with one partition, so that the order is known."""
    return own_topics(stack.kafka, partitions=1)


@pytest.fixture
def env(kafka: KafkaSettings, tmp_path: Path) -> dict[str, str]:
    """What leads a command to these topics."""
    return environment(kafka, tmp_path)


def request(name: str) -> Request:
    return Request(version=1, request_id=name, image=ImageReference("uploads", name))


def ids(env: dict[str, str], *arguments: str) -> list[str]:
    ended = run(env, "results", *arguments)
    assert ended.returncode == ExitCode.OK, ended.stderr
    return [record["request_id"] for record in lines(ended.stdout)]


def test_places_to_begin_and_filters(kafka: KafkaSettings, env: dict[str, str]) -> None:
    publish(
        kafka,
        ok(request("cat"), label="cat"),
        ok(request("dim"), label="cat", score=0.1),
        ok(request("dog"), label="dog", module="other"),
        failed(request("bad")),
    )
    assert ids(env) == ["cat", "dim", "dog", "bad"]
    assert ids(env, "--from", "-2") == ["dog", "bad"]
    assert ids(env, "--from", "end") == []
    assert ids(env, "--from", "1h") == ["cat", "dim", "dog", "bad"]
    assert ids(env, "--from", f"@{datetime.now(UTC).timestamp() + 3600:.0f}") == []
    assert ids(env, "--label", "cat", "--min-score", "0.5") == ["cat"]
    assert ids(env, "--module", "other") == ["dog"]
    assert ids(env, "--status", "failed") == ["bad"]
    assert ids(env, "--count", "2") == ["cat", "dim"]


def test_following(kafka: KafkaSettings, env: dict[str, str]) -> None:
    publish(kafka, ok(request("before")))
    process = subprocess.Popen(
        command("results", "--follow", "--from", "-1"),
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert lines(process.stdout.readline())[0]["request_id"] == "before"
        publish(kafka, ok(request("after")))
        assert lines(process.stdout.readline())[0]["request_id"] == "after"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert stderr == ""


def test_a_reader_that_has_seen_enough(kafka: KafkaSettings, env: dict[str, str]) -> None:
    publish(kafka, *(ok(request(f"r{number}")) for number in range(2000)))
    process = subprocess.Popen(
        command("results"), cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (("--from", "yesterday"), ExitCode.USAGE, "error [usage]: 'yesterday' is no place to begin"),
        (("--min-score", "2"), ExitCode.USAGE, "--min-score"),
    ],
)
def test_wrong_arguments(
    env: dict[str, str], arguments: tuple[str, ...], exit_code: ExitCode, text: str
) -> None:
    ended = run(env, "results", *arguments)
    assert ended.returncode == exit_code
    assert text in ended.stderr
