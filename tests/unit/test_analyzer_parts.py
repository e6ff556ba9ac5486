import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Producer
from obstore.exceptions import GenericError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.deaths import describe
from consumers.analyzer.devices import device_of, gpu_count, worker_count
from consumers.analyzer.errors import StoreUnavailable
from consumers.analyzer.publishing import fit
from consumers.analyzer.slots import Slot, share
from consumers.analyzer.store import explain
from consumers.analyzer.window import Record
from infra.images.errors import ImageError
from infra.images.sniffing import kind_of
from infra.kafka import MAX_DEAD_LETTER_BYTES
from infra.settings import AnalyzerSettings
from schemas.headers import Headers
from schemas.messages import RecordPosition


def test_a_budget_makes_the_one_wait_that_would_exceed_it() -> None:
    budget = ByteBudget(100)
    first = budget.hold(60)
    passed = threading.Event()

    def hold_then_tell() -> None:
        budget.hold(60)
        passed.set()

    waiting = threading.Thread(target=hold_then_tell, daemon=True)
    waiting.start()
    assert not passed.wait(0.1)
    first.release()
    first.release()
    assert passed.wait(5)
    assert budget.held_bytes == 60


def test_a_budget_lets_one_pass_that_is_larger_than_all_of_it() -> None:
    budget = ByteBudget(100)
    lease = budget.hold(1000)
    lease.keep(30)
    assert budget.held_bytes == 30
    lease.keep(None)
    lease.keep(50)
    assert budget.held_bytes == 30
    lease.release()
    assert budget.held_bytes == 0


def test_a_large_one_is_not_passed_by_small_ones_for_ever() -> None:
    budget = ByteBudget(100)
    small = budget.hold(10)
    served: list[str] = []

    def take(name: str, size_bytes: int) -> None:
        lease = budget.hold(size_bytes)
        served.append(name)
        lease.release()

    large = threading.Thread(target=take, args=("large", 1000), daemon=True)
    large.start()
    while not budget.waiting:
        pass
    late = threading.Thread(target=take, args=("late", 10), daemon=True)
    late.start()
    late.join(0.1)
    assert served == []
    small.release()
    for thread in (large, late):
        thread.join(5)
    assert served == ["large", "late"]


def test_two_supervisors_on_one_machine_get_different_numbers(tmp_path: Path) -> None:
    first, second = Slot(tmp_path), Slot(tmp_path)
    assert (first.claim(), second.claim()) == (0, 1)
    first.release()
    third = Slot(tmp_path)
    assert third.claim() == 0
    for slot in (second, third):
        slot.release()


def test_a_number_is_taken_while_a_worker_of_a_killed_supervisor_lives(tmp_path: Path) -> None:
    killed = Slot(tmp_path)
    assert killed.claim() == 0
    assert killed.path is not None
    worker = share(killed.path)
    killed.release()
    successor = Slot(tmp_path)
    assert successor.claim() == 1
    worker.close()
    last = Slot(tmp_path)
    assert last.claim() == 0
    for slot in (successor, last):
        slot.release()


def test_a_number_is_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from consumers.analyzer.slots import Slot; "
        "slot = Slot(Path(sys.argv[1])); print(slot.claim(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "0"
        other = Slot(tmp_path)
        assert other.claim() == 1
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    next_one = Slot(tmp_path)
    assert next_one.claim() == 0
    for slot in (other, next_one):
        slot.release()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError("status code: 404 <Code>NoSuchKey</Code>"), "object_not_found"),
        (FileNotFoundError("status code: 404 <Code>NoSuchBucket</Code>"), "bucket_not_found"),
        (PermissionDeniedError("status code: 403 <Code>AccessDenied</Code>"), "object_access_denied"),
        (PreconditionError("status code: 412"), "object_changed"),
        (GenericError("status code: 405 <Code>MethodNotAllowed</Code>"), "object_access_denied"),
    ],
)
def test_a_refusal_is_the_images_own(error: Exception, code: str) -> None:
    explained = explain("bucket", "key", error)
    assert isinstance(explained, ImageError)
    assert explained.code == code
    assert "s3://bucket/key" in explained.message


@pytest.mark.parametrize(
    "error",
    [
        PermissionDeniedError("status code: 403 <Code>ExpiredToken</Code>"),
        PermissionDeniedError("status code: 403 <Code>SignatureDoesNotMatch</Code>"),
        GenericError("status code: 400 <Code>ExpiredToken</Code>"),
        UnauthenticatedError("status code: 401"),
        GenericError("status code: 408 Request Timeout"),
        GenericError("status code: 425 Too Early"),
        GenericError("status code: 429 Too Many Requests"),
        GenericError("status code: 500"),
        GenericError("status code: 503 <Code>SlowDown</Code>"),
        GenericError("HTTP error: error sending request"),
        GenericError("status code: 400 <Code>AuthorizationHeaderMalformed</Code>"),
        GenericError("status code: 400 <Code>RequestTimeout</Code>"),
        GenericError("status code: 400 Client sent an HTTP request to an HTTPS server"),
        PermissionDeniedError("status code: 403 <html>a proxy</html>"),
        FileNotFoundError("status code: 404 <html>no backend</html>"),
        GenericError("HTTP error: request or response body error"),
    ],
)
def test_an_outage_is_nobodys_fault(error: Exception) -> None:
    assert isinstance(explain("bucket", "key", error), StoreUnavailable)


def test_workers_follow_the_devices() -> None:
    settings = AnalyzerSettings()
    assert worker_count(settings, partitions=4, gpus=8) == 4
    assert worker_count(settings, partitions=4, gpus=2) == 2
    assert worker_count(settings, partitions=1000, gpus=0) == os.cpu_count()
    assert worker_count(AnalyzerSettings(workers="7"), partitions=4, gpus=0) == 7
    assert [device_of(index, 2) for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of(3, 0) == "cpu"
    assert gpu_count(AnalyzerSettings(gpus="3")) == 3


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"  <svg>", "SVG"),
        (b"RIFF0000WEBP", "WebP"),
        (b"hello", None),
        (b"", None),
    ],
)
def test_kinds_of_files(head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind


def explained(headers: Headers) -> list[tuple[str, bytes | None]]:
    return [*headers, ("why", b"because")]


HUGE = 2 * MAX_DEAD_LETTER_BYTES


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", b"v", [("h", b"v")]),
        (None, None, []),
        (b"k", b"x" * HUGE, [("h", b"v" * 100)]),
        (b"k" * HUGE, b"x" * HUGE, []),
        (b"k", b"v", [("h", b"v" * HUGE)]),
        (b"k", b"v", [("\N{CAT}" * 500_000, b"")]),
    ],
)
def test_a_dead_letter_fits_its_topic(key: bytes | None, value: bytes | None, headers: Headers) -> None:
    record = Record(RecordPosition("id", "t", 0, 1, datetime(2026, 1, 1, tzinfo=UTC)), key, value, headers)
    fitted, fitted_key, fitted_value = fit(record, explained)
    assert ("why", b"because") in fitted
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": MAX_DEAD_LETTER_BYTES})
    producer.produce("t", key=fitted_key, value=fitted_value, headers=cast(Any, fitted))
    producer.purge()
    if sum(len(part or b"") for part in (key, value)) < 1000 and len(str(headers)) < 1000:
        assert (fitted_key, fitted_value) == (key, value)
        assert fitted[:-1] == headers


def test_an_end_is_told_in_words() -> None:
    assert describe(-9) == "signal 9, SIGKILL"
    assert describe(4) == "exit code 4, module"
    assert describe(99) == "exit code 99"
