"""Whatever arrives gets the promised code or the right detections, and the next good image is answered."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pytest
from confluent_kafka import Message

from schemas.dead_letters import DeadLetterReason
from schemas.errors import ErrorCode
from schemas.messages import Result
from tests import images
from tests.service import Service, eventually, new_service, request
from tests.stack import RunningStack

GOOD = images.good_images()
BAD = images.bad_images()

KEY = "any/key.jpg"
VALID = json.loads(request("x", KEY))


def changed(**fields: object) -> bytes:
    """A valid request but for these fields; None removes one."""
    document = {**VALID, **fields}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


REJECTED = {
    "not-utf-8": (b'{"version": 1, "request_id": "\xff\xfe"}', ErrorCode.MESSAGE_NOT_UTF8),
    "not-json": (b"{version: 1", ErrorCode.MESSAGE_NOT_JSON),
    "empty": (b"", ErrorCode.MESSAGE_EMPTY),
    "json-null": (b"null", ErrorCode.MESSAGE_INVALID),
    "deep-nesting": (b"[" * 100_000, ErrorCode.MESSAGE_NOT_JSON),
    "deep-objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, ErrorCode.MESSAGE_NOT_JSON),
    "nan": (request("x", KEY).replace(b"1", b"NaN", 1), ErrorCode.MESSAGE_NOT_JSON),
    "wrong-type": (changed(image="s3://uploads/key"), ErrorCode.MESSAGE_INVALID),
    "wrong-attribute": (changed(attributes={"a": 1}), ErrorCode.MESSAGE_INVALID),
    "a-list": (b"[1, 2]", ErrorCode.MESSAGE_INVALID),
    "missing-id": (changed(request_id=None), ErrorCode.MESSAGE_INVALID),
    "empty-id": (changed(request_id=""), ErrorCode.MESSAGE_INVALID),
    "over-long-id": (changed(request_id="x" * 129), ErrorCode.MESSAGE_INVALID),
    "id-with-control-characters": (changed(request_id="a\nb"), ErrorCode.MESSAGE_INVALID),
    "unknown-version": (changed(version=2, image=[]), ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
    "missing-version": (changed(version=None), ErrorCode.MESSAGE_INVALID),
    "disallowed-bucket": (request("x", KEY, bucket="secrets"), ErrorCode.BUCKET_NOT_ALLOWED),
    "disallowed-bucket-by-reference": (b"s3://secrets/key", ErrorCode.BUCKET_NOT_ALLOWED),
    "parent-segment": (request("x", "a/../b"), ErrorCode.KEY_INVALID),
    "nul-in-key": (request("x", "a\0b"), ErrorCode.KEY_INVALID),
    "control-character-in-key": (request("x", "a\x1bb"), ErrorCode.KEY_INVALID),
    "etag-no-header-can-hold": (
        changed(image={**VALID["image"], "etag": "a\r\nb"}),
        ErrorCode.MESSAGE_INVALID,
    ),
    "over-long-version": (
        changed(image={**VALID["image"], "version_id": "v" * 70_000}),
        ErrorCode.MESSAGE_INVALID,
    ),
    "large-attributes": (changed(attributes={"a": "x" * 900_000}), ErrorCode.MESSAGE_INVALID),
    "over-long-key": (request("x", "k" * 1025), ErrorCode.KEY_INVALID),
    "over-long-key-in-bytes": (request("x", "é" * 513), ErrorCode.KEY_INVALID),
}

MISSING = {
    "missing-object": (request("missing-object", "no/such/key"), ErrorCode.OBJECT_NOT_FOUND),
    "missing-bucket": (request("missing-bucket", KEY, bucket="never-made"), ErrorCode.BUCKET_NOT_FOUND),
    "missing-odd-key": (request("missing-odd-key", "a//b"), ErrorCode.OBJECT_NOT_FOUND),
}


@dataclass
class Outcome:
    """What the service made of everything that was published."""

    results: dict[str, Result]
    dead: dict[bytes, Message]
    stored: dict[str, tuple[str, str | None]]


@pytest.fixture(scope="module")
def outcome(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """Publishes every case, each followed by a good image on the same partition."""
    environment = {"S3_ALLOWED_BUCKETS": "uploads,never-made"}
    with new_service(tmp_path_factory.mktemp("bad-input"), environment) as service:
        good = {f"image-{name}": known.data for name, known in {**GOOD, **BAD}.items()}
        values = [service.request(data, name) for name, data in good.items()]
        values += [value for value, _ in MISSING.values()]
        values += [value for value, _ in REJECTED.values()]
        names = [*good, *MISSING, *REJECTED]
        with service.run("analyzer", "-m", "dummy", "-w", "2") as analyzer, service.run("sink") as sink:
            analyzer.wait_ready()
            sink.wait_ready()
            expected = len(good) + len(MISSING) + len(names)
            followers = [service.request(images.jpeg(), f"after-{name}") for name in names]
            pairs = list(zip(values, followers, strict=True))
            for partition in range(4):
                service.publish(list(chain.from_iterable(pairs[partition::4])), partition=partition)
            service.publish([None], partition=0)
            eventually(lambda: service.row_count() >= expected, 60)
            yield _outcome(service)
            assert analyzer.stop() == 0
            assert sink.stop() == 0


def _outcome(service: Service) -> Outcome:
    results = service.results()
    by_id = {result.request_id: result for result in results}
    assert len(by_id) == len(results), "a request was answered twice"
    rows = service.rows("SELECT request_id, status, error_code FROM results WHERE source_topic = %s")
    return Outcome(
        by_id,
        {message.value() or b"": message for message in service.dead_letters()},
        {request_id: (status, code) for request_id, status, code in rows},
    )


@pytest.mark.parametrize("name", GOOD)
def test_an_image_of_every_kind_is_analyzed(outcome: Outcome, name: str) -> None:
    known, result = GOOD[name], outcome.results[f"image-{name}"]
    assert (result.status, result.error) == ("ok", None)
    assert (result.image.width_px, result.image.height_px) == known.size
    if known.box is None:
        assert result.detections == ()
    else:
        (found,) = result.detections
        assert (found.box.x, found.box.y, found.box.w, found.box.h) == pytest.approx(known.box, abs=3)
        assert found.labels[0].label == known.label


@pytest.mark.parametrize(
    ("name", "code"),
    [(f"image-{name}", known.code) for name, known in BAD.items()]
    + [(name, code) for name, (_, code) in MISSING.items()],
)
def test_an_image_that_cannot_be_analyzed_fails_with_its_code(
    outcome: Outcome, name: str, code: ErrorCode
) -> None:
    result = outcome.results[name]
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == code
    assert result.detections == ()
    assert outcome.stored[name] == ("failed", code)


@pytest.mark.parametrize("name", REJECTED)
def test_a_record_that_is_no_request_becomes_a_dead_letter(outcome: Outcome, name: str) -> None:
    value, code = REJECTED[name]
    dead = outcome.dead[value]
    reason = DeadLetterReason.from_headers(dead.headers() or [])  # type: ignore[arg-type]
    assert reason.code == code
    assert reason.message
    assert reason.component == "analyzer.dummy"


def test_there_are_no_other_dead_letters(outcome: Outcome) -> None:
    assert set(outcome.dead) == {value for value, _ in REJECTED.values()}


def test_a_tombstone_is_skipped(outcome: Outcome) -> None:
    assert b"" in outcome.dead  # the empty value, which is no tombstone
    assert len(outcome.dead) == len(REJECTED)


@pytest.mark.parametrize("name", [*(f"image-{name}" for name in {**GOOD, **BAD}), *MISSING, *REJECTED])
def test_the_next_good_image_is_answered(outcome: Outcome, name: str) -> None:
    assert outcome.results[f"after-{name}"].status == "ok"
    assert outcome.stored[f"after-{name}"] == ("ok", None)
