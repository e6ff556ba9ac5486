"""What must hold for any message and any bytes."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas.codec import DecodeError, decode_request, decode_result, encode
from schemas.documents import HERE
from schemas.intake import read_record
from schemas.messages import (
    VERSION,
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    ImageReference,
    Label,
    ModuleIdentity,
    RecordPosition,
    Request,
    Result,
    SourcePosition,
    Timings,
)
from schemas.references import check_reference

POSITION = RecordPosition("topic-id", "analysis.images", 0, 0, datetime(2026, 11, 23, tzinfo=UTC))
ALLOWED = frozenset({"images", "uploads"})
GOLDEN = [
    path.read_bytes()
    for path in sorted((Path(__file__).parent.parent / "golden" / "records").glob("*.value.*"))
]
REQUEST_SCHEMA = jsonschema.Draft7Validator(json.loads((HERE / "json" / "request.json").read_text()))
RESULT_SCHEMA = jsonschema.Draft7Validator(json.loads((HERE / "json" / "result.json").read_text()))

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

text = st.text(max_size=20)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)
numbers = st.floats(allow_nan=False, allow_infinity=False)
lengths = st.floats(0, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**63 - 1)
attributes = st.dictionaries(text, text, max_size=3)

requests = st.builds(
    Request,
    version=st.just(VERSION),
    request_id=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128),
    image=st.builds(
        ImageReference,
        st.text(min_size=1, max_size=255),
        st.text(min_size=1),
        st.none() | text,
        st.none() | text,
    ),
    modules=st.none() | st.lists(text, max_size=3).map(tuple),
    requested_at=st.none() | moments,
    attributes=attributes,
)
detections = st.builds(
    Detection,
    st.builds(Box, numbers, numbers, lengths, lengths),
    st.lists(st.builds(Label, text, st.floats(0, 1)), max_size=3).map(tuple),
)
results = st.builds(
    Result,
    request_id=text,
    status=st.sampled_from(["ok", "failed"]),
    module=st.builds(ModuleIdentity, text, text),
    image=st.builds(
        AnalyzedImage,
        bucket=text,
        key=text,
        version_id=st.none() | text,
        etag=st.none() | text,
        width_px=st.none() | counts,
        height_px=st.none() | counts,
        size_bytes=st.none() | counts,
        format=st.none() | text,
    ),
    detections=st.lists(detections, max_size=3).map(tuple),
    error=st.none() | st.builds(Failure, text, text),
    source=st.builds(SourcePosition, text, text, counts, counts, counts, moments),
    timings_ms=st.builds(Timings, queued=st.none() | numbers, total=st.none() | numbers),
    requested_at=st.none() | moments,
    analyzed_at=moments,
    attributes=attributes,
)


@patient
@given(requests)
def test_requests_survive_encoding(request: Request) -> None:
    assert decode_request(encode(request)) == request


@patient
@given(results)
def test_results_survive_encoding(result: Result) -> None:
    assert decode_result(encode(result)) == result


@patient
@given(requests)
def test_encoded_requests_keep_the_published_schema(request: Request) -> None:
    REQUEST_SCHEMA.validate(json.loads(encode(request)))


@patient
@given(results)
def test_encoded_results_keep_the_published_schema(result: Result) -> None:
    RESULT_SCHEMA.validate(json.loads(encode(result)))


# fmt: off
NAMES = [
    "version", "request_id", "image", "bucket", "key", "modules", "requested_at", "attributes",
    "Records", "EventName", "eventName", "eventSource", "eventTime", "s3", "name", "object", "eTag",
    "versionId", "detail-type", "detail", "specversion", "data", "data_base64", "schema", "payload", "Type",
    "Message", "Event",
]
STRINGS = [
    "images", "ObjectCreated:Put", "s3:ObjectCreated:Post", "Object Created", "Notification", "1.0",
    "s3:TestEvent", "s3://images/a", "a%2Fb", "..", "ceph:s3", "e30=", "{}",
    "2026-11-23T09:30:00Z", "0001-01-01T00:00:00+10:00",
]
# fmt: on


def _documents() -> SearchStrategy[Any]:
    """JSON made of the names and values that the decoder looks at, in any arrangement."""
    names, strings = st.sampled_from(NAMES), st.sampled_from(STRINGS)
    leaves = st.none() | st.booleans() | st.integers() | numbers | strings | st.text()
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(names, inner, max_size=5)
            | st.builds(json.dumps, inner)
            | st.builds(lambda image: {"bucket": {"name": "images"}, "object": {"key": image}}, inner)
        ),
        max_leaves=12,
    )


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A golden record with a piece replaced."""
    value = draw(st.sampled_from(GOLDEN))
    start = draw(st.integers(0, len(value)))
    end = draw(st.integers(start, min(len(value), start + 40)))
    return value[:start] + draw(st.binary(max_size=8) | st.sampled_from(GOLDEN)) + value[end:]


values = st.one_of(
    st.none(),
    st.binary(),
    st.text().map(str.encode),
    _documents().map(lambda document: json.dumps(document).encode()),
    _damaged(),
)
headers = st.lists(
    st.tuples(st.text() | st.sampled_from(["content-type", "ce_specversion"]), st.none() | st.binary()),
    max_size=3,
)


@patient
@given(values, headers)
def test_any_record_is_read_or_refused(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    try:
        intake = read_record(value, headers, POSITION, ALLOWED)
    except DecodeError as error:
        refused = error
    else:
        assert intake.items or intake.skipped
        for item in intake.items:
            check_reference(item.request.image, ALLOWED)
            assert decode_request(encode(item.request)) == item.request
        return
    assert refused.raw == value
    assert refused.message.isprintable()


@patient
@given(values.filter(lambda value: value is not None))
def test_any_bytes_are_a_result_or_refused(value: bytes) -> None:
    for decode in (decode_request, decode_result):
        with contextlib.suppress(DecodeError):
            decode(value)
