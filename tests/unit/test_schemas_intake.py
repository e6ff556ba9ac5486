import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.codec import DecodeError
from schemas.errors import ErrorCode
from schemas.intake import Intake, SkipReason, read_record
from schemas.messages import RecordPosition
from schemas.wrappers import MAX_LAYERS

POSITION = RecordPosition("topic-id", "analysis.images", 2, 40, datetime(2026, 11, 23, tzinfo=UTC))


def read(value: Any, headers: Any = ()) -> Intake:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return read_record(raw, headers, POSITION, frozenset({"images"}))


def request(bucket: str = "images", key: str = "a.jpg") -> dict[str, Any]:
    return {"version": 1, "request_id": "a", "image": {"bucket": bucket, "key": key}}


def event(key: str = "a.jpg", name: str = "ObjectCreated:Put", **entity: Any) -> dict[str, Any]:
    about = {"bucket": {"name": "images"}, "object": {"key": key, **entity}}
    return {"eventName": name, "eventSource": "aws:s3", "s3": about}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", ErrorCode.MESSAGE_EMPTY),
        (b"  \n", ErrorCode.MESSAGE_EMPTY),
        (b'""', ErrorCode.MESSAGE_EMPTY),
        (b"\0\0\0\0\x01", ErrorCode.MESSAGE_EMPTY),
        (b"\xff\xd8\xff\xe0", ErrorCode.MESSAGE_NOT_UTF8),
        (b"\0\0\0\0\x01\xff", ErrorCode.MESSAGE_NOT_UTF8),
        (b"hello", ErrorCode.MESSAGE_NOT_JSON),
        (b"images/a.jpg", ErrorCode.MESSAGE_NOT_JSON),
        (b"https://images/a.jpg", ErrorCode.MESSAGE_NOT_JSON),
        (b'{"version": NaN}', ErrorCode.MESSAGE_NOT_JSON),
        (b"[" * 100_000, ErrorCode.MESSAGE_NOT_JSON),
        (b'{"Records":' * 50_000, ErrorCode.MESSAGE_NOT_JSON),
        (b"null", ErrorCode.MESSAGE_INVALID),
        (b"17", ErrorCode.MESSAGE_INVALID),
        (b"[]", ErrorCode.MESSAGE_INVALID),
        (b"{}", ErrorCode.MESSAGE_INVALID),
        ({"version": 1}, ErrorCode.MESSAGE_INVALID),
        ({**request(), "request_id": None}, ErrorCode.MESSAGE_INVALID),
        ({**request(), "request_id": "x" * 129}, ErrorCode.MESSAGE_INVALID),
        ({**request(), "image": "s3://images/a.jpg"}, ErrorCode.MESSAGE_INVALID),
        ({**request(), "version": 2}, ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
        ({"version": 3, "batch": []}, ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
        (request(bucket="secrets"), ErrorCode.BUCKET_NOT_ALLOWED),
        (b"s3://secrets/a.jpg", ErrorCode.BUCKET_NOT_ALLOWED),
        (b"s3:///a.jpg", ErrorCode.BUCKET_NOT_ALLOWED),
        (b"s3://images/", ErrorCode.KEY_INVALID),
        (b"s3://images/../a.jpg", ErrorCode.KEY_INVALID),
        (request(key="a/../../b"), ErrorCode.KEY_INVALID),
        (request(key="a\0b"), ErrorCode.KEY_INVALID),
        (request(key="a\x1bb"), ErrorCode.KEY_INVALID),
        (request(key="x" * 1025), ErrorCode.KEY_INVALID),
        ({"Records": [event("a%00b")]}, ErrorCode.KEY_INVALID),
        ({"Records": [event(""), event()]}, ErrorCode.KEY_INVALID),
        ({"Records": [event(), 7]}, ErrorCode.MESSAGE_INVALID),
        ({"Records": [{}]}, ErrorCode.MESSAGE_INVALID),
        ({"Records": [{"eventName": "ObjectCreated:Put"}]}, ErrorCode.MESSAGE_INVALID),
        (
            {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": "images"}}]},
            ErrorCode.MESSAGE_INVALID,
        ),
        ({"Records": {"eventName": "ObjectCreated:Put"}}, ErrorCode.MESSAGE_INVALID),
        ({"detail-type": "Object Created", "detail": {"bucket": {}}}, ErrorCode.MESSAGE_INVALID),
        ({"specversion": "1.0", "data": None}, ErrorCode.MESSAGE_INVALID),
        ({"specversion": "1.0", "data": "hello"}, ErrorCode.MESSAGE_NOT_JSON),
        ({"specversion": "1.0", "data_base64": "not base64"}, ErrorCode.MESSAGE_INVALID),
        ({"specversion": "1.0", "data_base64": "/w=="}, ErrorCode.MESSAGE_NOT_UTF8),
        ({"specversion": "1.0", "id": "no data"}, ErrorCode.MESSAGE_INVALID),
    ],
)
def test_bad_record(value: Any, code: ErrorCode) -> None:
    with pytest.raises(DecodeError) as caught:
        read(value)
    assert caught.value.code is code
    assert caught.value.raw == (value if isinstance(value, bytes) else json.dumps(value).encode())
    assert 0 < len(caught.value.message) < 500


def test_a_value_of_another_format_is_named_by_its_header() -> None:
    with pytest.raises(DecodeError, match="application/avro"):
        read(b"\x00\x00\x00\x00\x07\xff", [("Content-Type", b"application/avro"), ("other", None)])


@pytest.mark.parametrize("name", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
@pytest.mark.parametrize("prefix", ["", "s3:"])
def test_new_images(name: str, prefix: str) -> None:
    assert len(read({"Records": [event(name=f"{prefix}ObjectCreated:{name}")]}).items) == 1


@pytest.mark.parametrize(
    "name",
    [
        "s3:ObjectCreated:PutTagging",
        "s3:ObjectCreated:PutRetention",
        "s3:ObjectCreated:PutLegalHold",
        "s3:ObjectCreated:DeleteTagging",
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectAccessed:Get",
        "ObjectRestore:Completed",
        "s3:BucketCreated:*",
        "LifecycleExpiration:Delete",
    ],
)
def test_other_events_are_skipped_whatever_they_hold(name: str) -> None:
    assert read({"Records": [{"eventName": name}]}) == Intake(skipped=(SkipReason.EVENT_TYPE,))


def test_the_event_name_may_stand_beside_the_records_only() -> None:
    nameless = event()
    del nameless["eventName"]
    assert len(read({"EventName": "s3:ObjectCreated:Put", "Records": [nameless]}).items) == 1


@pytest.mark.parametrize(
    ("source", "raw", "key", "fallback"),
    [
        ("minio:s3", "a%2Fb+c.jpg", "a/b c.jpg", "a%2Fb+c.jpg"),
        ("aws:s3", "a/b.jpg", "a/b.jpg", None),
        ("aws:s3", "100%.jpg", "100%.jpg", None),
        ("aws:s3", "%ff.jpg", "%ff.jpg", None),  # not UTF-8, so it was never encoded
        ("ceph:s3", "a+b.jpg", "a+b.jpg", "a b.jpg"),
        ("ceph:s3", "a%2F..%2Fb", "a%2F..%2Fb", None),  # the other reading would be refused
        (None, "a%20b.jpg", "a b.jpg", "a%20b.jpg"),
    ],
)
def test_how_keys_are_read(source: str | None, raw: str, key: str, fallback: str | None) -> None:
    (item,) = read({"Records": [{**event(raw), "eventSource": source}]}).items
    assert (item.request.image.key, item.fallback_key) == (key, fallback)


@pytest.mark.parametrize(
    ("entity", "version_id"),
    [
        ({}, None),
        ({"versionId": ""}, None),
        ({"versionId": None}, None),
        ({"versionId": 7}, None),
        ({"versionId": "null"}, "null"),
        ({"version-id": "v1"}, "v1"),
    ],
)
def test_versions(entity: dict[str, Any], version_id: str | None) -> None:
    (item,) = read({"Records": [event(**entity)]}).items
    assert item.request.image.version_id == version_id


@pytest.mark.parametrize("name", ["eTag", "etag"])
def test_an_etag_makes_the_id_but_is_not_demanded(name: str) -> None:
    (item,) = read({"Records": [event(**{name: '"abc"'})]}).items
    (plain,) = read({"Records": [event(**{name: "abc"})]}).items
    (without,) = read({"Records": [event(**{name: ""})]}).items
    assert item.request.image.etag is None
    assert item.request.request_id == plain.request.request_id != without.request.request_id


@pytest.mark.parametrize(
    "time", [None, 7, "", "yesterday", "2026-11-23T09:30:00", "9999-12-31T23:59:59-01:00"]
)
def test_an_odd_event_time_is_no_reason_to_refuse(time: Any) -> None:
    (item,) = read({"Records": [{**event(), "eventTime": time}]}).items
    assert item.request.requested_at is None


def test_items_carry_their_place_and_ids_of_their_own() -> None:
    intake = read({"Records": [event(), event(name="ObjectRemoved:Delete"), event()]})
    assert [item.index for item in intake.items] == [0, 2]
    assert intake.skipped == (SkipReason.EVENT_TYPE,)
    assert len({item.request.request_id for item in intake.items}) == 2
    assert POSITION.at(2).index == 2
    assert intake == read({"Records": [event(), event(name="ObjectRemoved:Delete"), event()]})


def test_wrappers_are_removed_to_a_bounded_depth() -> None:
    def wrapped(layers: int) -> dict[str, Any]:
        document = request()
        for _ in range(layers):
            document = {"specversion": "1.0", "data": document}
        return document

    parsing_and_the_last_look = 2
    allowed = MAX_LAYERS - parsing_and_the_last_look
    assert len(read(wrapped(allowed)).items) == 1
    with pytest.raises(DecodeError, match="wrappers") as caught:
        read(wrapped(allowed + 1))
    assert caught.value.code is ErrorCode.MESSAGE_INVALID


def test_our_own_request_wins_over_what_else_it_may_look_like() -> None:
    both = {**request(), "Records": [event()], "payload": {}, "schema": {}, "Event": "s3:TestEvent"}
    (item,) = read(both).items
    assert item.request.request_id == "a"
