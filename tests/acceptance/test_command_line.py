"""The command line as a newcomer meets it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from analysis import COMMANDS
from infra.exit_codes import ExitCode
from tests import images
from tests.service import PROJECT, Service, eventually, new_service
from tests.stack import RunningStack, free_ports

HEAVY = {"torch", "confluent_kafka", "boto3", "psycopg2", "rich", "PIL", "numpy", "obstore", "faust"}


def analysis(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported_by(*arguments: str) -> set[str]:
    """The packages that a command imports."""
    timed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "analysis", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = (line.rpartition("|")[2].strip() for line in timed.stderr.splitlines())
    return {line.partition(".")[0] for line in lines}


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    shown = analysis("--help")
    assert shown.returncode == ExitCode.OK
    for name, (_, summary) in COMMANDS.items():
        assert name in shown.stdout
        assert summary in " ".join(shown.stdout.split())
    imported = imported_by("--help")
    assert "typer" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_does_not_import_torch(command: str) -> None:
    shown = analysis(command, "--help")
    assert shown.returncode == ExitCode.OK, shown.stderr
    assert "Usage: analysis" in shown.stdout or "Usage: python -m analysis" in shown.stdout
    assert "torch" not in imported_by(command, "--help")


def test_an_unknown_command_is_a_usage_error() -> None:
    shown = analysis("analyse")
    assert shown.returncode == ExitCode.USAGE
    assert "analyse" in shown.stderr


@pytest.mark.parametrize(
    "command",
    [("topics", "describe"), ("upload", "Makefile"), ("results",), ("sink",), ("migrate",), ("demo",)],
    ids=" ".join,
)
def test_without_a_stack_a_command_says_what_to_run(tmp_path: Path, command: tuple[str, ...]) -> None:
    ports = free_ports(tmp_path)
    environment = {
        "LOCAL_DIR": str(tmp_path),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports['LOCAL_KAFKA_PORT']}",
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['LOCAL_S3_PORT']}",
        "DATABASE_URL": f"postgresql://app:s3cret@127.0.0.1:{ports['LOCAL_POSTGRES_PORT']}/analysis",
    }
    shown = analysis(*command, **environment)
    assert shown.returncode == ExitCode.UNAVAILABLE, shown.stderr
    assert "analysis up" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert "s3cret" not in shown.stderr


@pytest.fixture
def service(stack: RunningStack, tmp_path: Path) -> Service:
    with new_service(tmp_path) as made:
        return made


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_a_line_typed_into_kcat_gets_its_row(service: Service) -> None:
    service.request(images.jpeg(), "typed")
    key = f"{service.kafka.images_topic}/typed"
    line = f'{{"version": 1, "request_id": "typed", "image": {{"bucket": "uploads", "key": "{key}"}}}}'
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer, service.run("sink") as sink:
        analyzer.wait_ready()
        sink.wait_ready()
        _kcat(service, f"{line}\ns3://uploads/{key}\n")
        eventually(lambda: service.row_count() == 2)
    rows = service.rows("SELECT request_id, status FROM results WHERE source_topic = %s")
    assert ("typed", "ok") in rows
    assert [status for _, status in rows] == ["ok", "ok"]


def test_one_event_may_carry_several_images(service: Service) -> None:
    for name in ("one", "two", "three"):
        service.request(images.jpeg(), name)
    prefix = service.kafka.images_topic
    records = [
        {
            "eventSource": "minio:s3",
            "eventName": event,
            "s3": {"bucket": {"name": "uploads"}, "object": {"key": f"{prefix}%2F{name}", "eTag": "old"}},
        }
        for name, event in [
            ("one", "s3:ObjectCreated:Put"),
            ("two", "s3:ObjectRemoved:Delete"),
            ("three", "s3:ObjectCreated:Put"),
        ]
    ]
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer, service.run("sink") as sink:
        analyzer.wait_ready()
        sink.wait_ready()
        service.publish([msgspec.json.encode({"EventName": "s3:ObjectCreated:Put", "Records": records})])
        eventually(lambda: service.row_count() == 2)
    results = service.results()
    assert [(result.image.key, result.source.index) for result in results] == [
        (f"{prefix}/one", 0),
        (f"{prefix}/three", 2),
    ]
    assert {result.status for result in results} == {"ok"}


def _kcat(service: Service, lines: str) -> None:
    subprocess.run(
        ["kcat", "-P", "-b", service.kafka.bootstrap_servers, "-t", service.kafka.images_topic],
        input=lines.encode(),
        timeout=30,
        check=True,
    )
