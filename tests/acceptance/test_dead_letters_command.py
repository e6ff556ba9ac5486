"""Dead letters are seen, published again without doubling an answer, set aside and deleted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.kafka import headers_of, make_producer, producer_config
from producers.dead_letters import DeadLetterBox
from schemas.dead_letters import MESSAGE, REPLAYS
from tests import images
from tests.service import PROJECT, Service, eventually, new_service
from tests.stack import RunningStack

CLOSED = {"S3_ALLOWED_BUCKETS": "elsewhere"}


def dead_letters(service: Service, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "analysis", "dead-letters", *arguments],
        cwd=PROJECT,
        env={**os.environ, **service.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def listed(service: Service, *arguments: str) -> list[dict[str, Any]]:
    answered = dead_letters(service, "list", "--json", *arguments)
    assert answered.returncode == 0, answered.stderr
    return [json.loads(line) for line in answered.stdout.splitlines()]


def count(service: Service) -> int:
    return len(DeadLetterBox(service.kafka).letters())


def refuse(service: Service, values: list[bytes]) -> None:
    """Has an analyzer refuse records, whose bucket it may not read."""
    with service.run("analyzer", "-m", "dummy", "-w", "1", **CLOSED) as analyzer:
        service.publish(values)
        eventually(lambda: count(service) >= len(values), 60)
        assert analyzer.stop() == 0


@pytest.mark.timeout(240)
def test_what_is_published_again_is_answered_once_and_in_its_own_name(
    stack: RunningStack, tmp_path: Path
) -> None:
    with new_service(tmp_path) as service:
        values = [service.request(images.jpeg(), f"r{number}") for number in range(6)]
        refuse(service, [*values, b"no request"])
        letters = {letter["reason"]["code"]: letter for letter in listed(service)}
        assert letters.keys() == {"bucket_not_allowed", "message_not_json"}

        shown = dead_letters(service, "show", letters["message_not_json"]["id"])
        assert json.loads(shown.stdout)["value"] == "no request"
        saved = tmp_path / "saved.jpg"
        dead_letters(service, "show", letters["bucket_not_allowed"]["id"], "--image", str(saved))
        assert saved.read_bytes() == images.jpeg()

        tried = dead_letters(service, "replay", "--code", "bucket_not_allowed", "--dry-run")
        assert "6 would be published again" in tried.stderr
        assert {letter["state"] for letter in listed(service)} == {"waiting"}

        with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer, service.run("sink") as sink:
            for expected in (6, 0):
                replayed = dead_letters(service, "replay", "--code", "bucket_not_allowed", "--rate", "100")
                assert replayed.returncode == 0, replayed.stderr
                assert f"{expected} published again" in replayed.stderr
            eventually(lambda: service.row_count() >= 6, 60)
            assert analyzer.stop() == 0
            assert sink.stop() == 0
        results = service.results()
        assert sorted(result.request_id for result in results) == [f"r{number}" for number in range(6)]
        assert {result.status for result in results} == {"ok"}
        positions = {(result.source.partition, result.source.offset) for result in results}
        assert positions == {
            (letter["reason"]["partition"], letter["reason"]["offset"])
            for letter in listed(service, "--code", "bucket_not_allowed")
        }
        assert {letter["state"] for letter in listed(service, "--code", "bucket_not_allowed")} == {"replayed"}
        assert len(listed(service, "--waiting")) == 1


@pytest.mark.timeout(240)
def test_a_row_that_failed_is_replaced_by_the_answer_of_its_replay(
    stack: RunningStack, tmp_path: Path
) -> None:
    folder = tmp_path / "mended"
    folder.mkdir()
    code = """
import os
from modules.dummy import module as dummy

class Mended(dummy.Dummy):
    name = "mended"

    def infer(self, batch):
        os._exit(1)
"""
    (folder / "module.py").write_text(code)
    with new_service(tmp_path) as service, service.run("sink") as sink:
        with service.run("analyzer", "-m", str(folder), "-w", "1") as analyzer:
            service.publish([service.request(images.jpeg(), "poison")])
            eventually(lambda: service.row_count() >= 1, 60)
            assert analyzer.stop() == 0
        status = "SELECT status, error_code, detection_count FROM results WHERE source_topic = %s"
        assert service.rows(status) == [("failed", "module_crashed", 0)]
        (folder / "module.py").write_text(code.replace("os._exit(1)", "return list(batch)"))
        with service.run("analyzer", "-m", str(folder), "-w", "1") as analyzer:
            assert "1 published again" in dead_letters(service, "replay").stderr
            eventually(lambda: service.rows(status) == [("ok", None, 1)], 60)
            assert analyzer.stop() == 0
        assert sink.stop() == 0


@pytest.mark.timeout(120)
def test_what_keeps_coming_back_is_set_aside_until_it_is_named(stack: RunningStack, tmp_path: Path) -> None:
    with new_service(tmp_path) as service:
        refuse(service, [b"no request"])
        with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
            for comes_back in range(1, 4):
                assert "1 published again" in dead_letters(service, "replay").stderr
                eventually(lambda: count(service) > comes_back, 30)  # noqa: B023 - waited for here
            assert analyzer.stop() == 0
        states = [letter["state"] for letter in listed(service)]
        assert states == ["replayed", "replayed", "replayed", "set_aside"]
        assert [letter["replays"] for letter in listed(service)] == [0, 1, 2, 3]
        last = listed(service)[-1]["id"]
        assert "0 published again" in dead_letters(service, "replay").stderr
        assert "1 published again" in dead_letters(service, "replay", last).stderr


@pytest.mark.timeout(120)
def test_letters_of_other_systems_are_read_and_go_back_where_they_came_from(
    stack: RunningStack, tmp_path: Path
) -> None:
    with new_service(tmp_path) as service:
        topic = service.kafka.images_topic
        producer = make_producer(producer_config(service.kafka))
        connect = {"topic": topic, "partition": "2", "offset": "7", "exception.message": "of Connect"}
        headers: Any = [(f"__connect.errors.{name}", text.encode()) for name, text in connect.items()]
        producer.produce(service.kafka.dead_letters_topic, value=b"s3://uploads/x", headers=headers)
        assert producer.flush(30) == 0
        (letter,) = listed(service)
        assert (letter["reason"]["partition"], letter["reason"]["message"]) == (2, "of Connect")
        assert "1 published again" in dead_letters(service, "replay").stderr
        (again,) = service.records(topic)
        assert (again.partition(), again.value()) == (2, b"s3://uploads/x")
        names = [name for name, _ in headers_of(again)]
        assert REPLAYS in names
        assert MESSAGE not in names
        assert not any(name.startswith("__connect") for name in names)


@pytest.mark.timeout(120)
def test_deleting(stack: RunningStack, tmp_path: Path) -> None:
    with new_service(tmp_path) as service:
        refuse(service, [b"no request", b"nor this"])
        assert dead_letters(service, "purge").returncode != 0, "nothing is deleted unasked"
        assert len(listed(service)) == 2
        assert dead_letters(service, "purge", "--until", "1h", "--yes").returncode == 0
        assert len(listed(service)) == 2
        assert dead_letters(service, "purge", "--yes").returncode == 0
        assert listed(service) == []


def test_wrong_arguments(stack: RunningStack, tmp_path: Path) -> None:
    with new_service(tmp_path) as service:
        for arguments in (
            ["show", "x"],
            ["show", "0-99"],
            ["replay", "0-1", "--code", "x"],
            ["list", "--since", "-5"],
        ):
            answered = dead_letters(service, *arguments)
            assert (answered.returncode, answered.stdout) == (2, "")
            assert "error [usage]" in answered.stderr
