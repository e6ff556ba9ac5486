"""Images that crash the process or never let go of it are found and answered, and no other suffers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.exit_codes import ExitCode
from infra.kafka import headers_of
from schemas.dead_letters import DeadLetterReason
from schemas.errors import ErrorCode
from tests import images
from tests.service import Running, Service, eventually, new_service, request
from tests.stack import RunningStack, unique

MODULE = """
import ctypes
import os
import re
from modules.dummy import module as dummy

def crash():
    ctypes.string_at(0)

def leave():
    os._exit(0)

def hang():
    re.match(r"(a+)+$", "a" * 60 + "b")  # holds Python's lock throughout

def hog():
    kept = []
    while True:
        kept.append(bytearray(b"x") * 2**24)

DEEDS = {101: crash, 102: leave, 103: hang, 104: hog}

class Deadly(dummy.Dummy):
    name = "deadly"
    timeout_s = 2
    decode_size_px = None

    def preprocess(self, image):
        if image.height == 201:
            crash()
        return image.width, super().preprocess(image)

    def infer(self, batch):
        for width, _ in batch:
            DEEDS.get(width, int)()
        return [found for _, found in batch]
"""
MANY, SOME = 1000, 200
LOOK_S = 0.5
ENVIRONMENT = {"KAFKA_SESSION_TIMEOUT_MS": "2000"}


@pytest.fixture
def deadly(tmp_path: Path) -> str:
    folder = tmp_path / "deadly"
    folder.mkdir()
    (folder / "module.py").write_text(MODULE)
    return str(folder)


def restarts(analyzer: Running) -> int:
    return analyzer.log_text().count("it starts again")


def all_answered(service: Service, requests: int) -> None:
    eventually(lambda: len(service.results()) >= requests, 180, LOOK_S)


def check_answers(service: Service, requests: int, poison: dict[str, ErrorCode]) -> None:
    """Every request has one answer, and only the poison ones failed, each kept as a dead letter too."""
    results = service.results()
    assert len(results) == len({result.request_id for result in results}) == requests
    failed = {result.request_id: result.error.code for result in results if result.error is not None}
    assert failed == poison
    letters = {
        letter.value(): DeadLetterReason.from_headers(headers_of(letter)) for letter in service.dead_letters()
    }
    assert {value: reason.code for value, reason in letters.items()} == {
        request(name, f"{service.kafka.images_topic}/{name}"): code for name, code in poison.items()
    }
    assert all(reason.attempts == 2 for reason in letters.values())


def requests_with(service: Service, requests: int, poison: dict[str, tuple[int, int]]) -> list[bytes]:
    """Good images, and among them, evenly spread, those of the sizes that are given by name."""
    service.request(images.jpeg(size=(320, 240)), "good")
    values = [request(f"r{number}", f"{service.kafka.images_topic}/good") for number in range(requests)]
    for number, (name, size) in enumerate(poison.items(), start=1):
        values[number * requests // (len(poison) + 1)] = service.request(images.jpeg(size=size), name)
    return values


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("size", "requests"), [((101, 99), MANY), ((99, 201), SOME)], ids=["in infer", "in preprocess"]
)
def test_a_crashing_image_among_a_thousand_costs_at_most_three_restarts(
    stack: RunningStack, tmp_path: Path, deadly: str, size: tuple[int, int], requests: int
) -> None:
    with (
        new_service(tmp_path, ENVIRONMENT) as service,
        service.run("analyzer", "-m", deadly, "-w", "2") as analyzer,
    ):
        analyzer.wait_ready()
        service.publish(requests_with(service, requests, {"poison": size}))
        all_answered(service, requests)
        assert restarts(analyzer) <= 3
        assert "module_crashed" in analyzer.log_text()
        assert analyzer.stop() == 0
        check_answers(service, requests, {"poison": ErrorCode.MODULE_CRASHED})


@pytest.mark.timeout(240)
def test_each_of_several_poison_images_is_found(stack: RunningStack, tmp_path: Path, deadly: str) -> None:
    poison = {"hangs": (103, 99), "leaves": (102, 99), "crashes": (101, 99)}
    with (
        new_service(tmp_path, ENVIRONMENT) as service,
        service.run("analyzer", "-m", deadly, "-w", "1") as analyzer,
    ):
        analyzer.wait_ready()
        service.publish(requests_with(service, SOME, poison))
        all_answered(service, SOME)
        assert "in hang" in analyzer.log_text(), "the stacks of a hung worker are in the log"
        assert analyzer.stop() == 0
        check_answers(
            service,
            SOME,
            {
                "hangs": ErrorCode.MODULE_TIMEOUT,
                "leaves": ErrorCode.MODULE_CRASHED,
                "crashes": ErrorCode.MODULE_CRASHED,
            },
        )


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group whose processes have 600 MiB together; who takes more is killed by the kernel."""
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / unique("analysis-tests")
        try:
            group.mkdir()
            (group / limit).write_text(str(600 * 2**20))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        yield group
        eventually(lambda: not (group / "cgroup.procs").read_text().split())  # noqa: B023 - waited for here
        group.rmdir()
        return
    pytest.skip("no control group can be made here that limits memory")


@pytest.mark.timeout(240)
def test_an_image_that_exhausts_memory_is_found(
    stack: RunningStack, tmp_path: Path, deadly: str, little_memory: Path
) -> None:
    with new_service(tmp_path, ENVIRONMENT) as service:
        with service.run("analyzer", "-m", deadly, "-w", "1") as analyzer:
            # Its workers are born into the same group.
            (little_memory / "cgroup.procs").write_text(str(analyzer.process.pid))
            analyzer.wait_ready()
            service.publish(requests_with(service, SOME, {"hog": (104, 99)}))
            all_answered(service, SOME)
            assert restarts(analyzer) <= 3
            assert "for want of memory" in analyzer.log_text()
            assert analyzer.stop() == 0
        check_answers(service, SOME, {"hog": ErrorCode.MODULE_CRASHED})


@pytest.mark.timeout(240)
def test_the_count_of_attempts_moves_with_the_partition(
    stack: RunningStack, tmp_path: Path, deadly: str
) -> None:
    """A second supervisor, on what might be another machine, takes the partitions of the first over."""
    with new_service(tmp_path, ENVIRONMENT) as service:
        service.publish(requests_with(service, SOME, {"poison": (101, 99)}), partition=0)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with service.run("analyzer", "-m", deadly, "-w", "1", TMPDIR=str(elsewhere)) as first:
            eventually(lambda: "is alone" in first.log_text() or "tried alone" in first.log_text(), 60)
            first.end()
        with service.run("analyzer", "-m", deadly, "-w", "1") as second:
            all_answered(service, SOME)
            assert restarts(second) <= 2
            assert second.stop() == 0
        failed = [result for result in service.results() if result.status == "failed"]
        assert [result.request_id for result in failed] == ["poison"]


DEADLY_TO_ALL = """
import ctypes
from modules.dummy import module as dummy

class DeadlyToAll(dummy.Dummy):
    name = "deadly-to-all"

    def infer(self, batch):
        ctypes.string_at(0)
"""


@pytest.mark.timeout(120)
def test_a_module_that_crashes_at_every_image_is_stopped(stack: RunningStack, tmp_path: Path) -> None:
    folder = tmp_path / "deadly-to-all"
    folder.mkdir()
    (folder / "module.py").write_text(DEADLY_TO_ALL)
    with new_service(tmp_path, {**ENVIRONMENT, "ANALYZER_MAX_CRASHES": "3"}) as service:
        service.publish(requests_with(service, SOME, {}))
        with service.run("analyzer", "-m", str(folder), "-w", "1") as analyzer:
            assert analyzer.process.wait(90) == ExitCode.FAILURES
            assert "ANALYZER_MAX_CRASHES=3" in analyzer.log_text()
        assert len(service.results()) <= 2


BROKEN = """
from modules.dummy import module as dummy

class Broken(dummy.Dummy):
    name = "broken"

    def infer(self, batch):
        raise ValueError("wrong weights")
"""


@pytest.mark.timeout(120)
def test_a_broken_module_does_not_answer_a_whole_topic(stack: RunningStack, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "module.py").write_text(BROKEN)
    with new_service(tmp_path, {"ANALYZER_MAX_FAILURES_IN_ROW": "20"}) as service:
        service.publish(requests_with(service, SOME, {}))
        with service.run("analyzer", "-m", str(folder), "-w", "1") as analyzer:
            assert analyzer.process.wait(60) == ExitCode.FAILURES
            assert "too_many_failures" in analyzer.log_text()
            assert "wrong weights" in analyzer.log_text()
        failed = len(service.results())
        assert failed <= 20
        (folder / "module.py").write_text(BROKEN.replace("raise", "return super().infer(batch) #"))
        with service.run("analyzer", "-m", str(folder), "-w", "1") as repaired:
            all_answered(service, SOME)
            assert repaired.stop() == 0
        assert sum(result.status == "ok" for result in service.results()) == SOME - failed
