"""A tiny comparison, as `make bench` runs a large one: whether it measures, not how fast anything is."""

import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from benchmarks.figures import read_all
from infra.kafka import make_admin
from infra.s3 import make_client
from tests.service import PROJECT
from tests.stack import RunningStack


@pytest.mark.timeout(240)
def test_a_comparison_writes_figures_and_leaves_nothing(stack: RunningStack, tmp_path: Path) -> None:
    done = benchmark(
        tmp_path, "end-to-end", "--modules", "dummy", "--images", "200", "--rounds", "1",
        "--peers", "plain_loop", "--rows", "",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "plain confluent-kafka loop" in done.stdout
    reports = read_all(tmp_path)
    compared = reports["end_to_end"]
    assert compared.notes == {}
    for contender in ("ours", "plain_loop"):
        assert (compared.value(f"end_to_end.dummy.{contender}") or 0) > 0, contender
        assert (compared.value(f"end_to_end.dummy.{contender}.cpu_per_1000_images") or 0) > 0, contender
    assert compared.value("end_to_end.dummy.ratio.plain_loop") is not None
    assert compared.value("end_to_end.dummy.efficiency") is not None
    assert (reports["bounds"].value("bounds.dummy.decode_cpu") or 0) > 0
    assert_nothing_is_left(stack)


def benchmark(results: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--results", str(results), "--distinct", "4", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )


def assert_nothing_is_left(stack: RunningStack) -> None:
    topics = make_admin(stack.kafka).list_topics(timeout=10).topics
    assert [name for name in topics if name.startswith("bench-")] == []
    buckets = make_client(stack.s3).list_buckets()["Buckets"]
    assert [bucket for bucket in buckets if bucket["Name"].startswith("bench-")] == []
    connection = psycopg2.connect(stack.database.url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench-%'")
            assert cursor.fetchall() == []
    finally:
        connection.close()
