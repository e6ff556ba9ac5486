import pickle
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from schemas.codec import DecodeError, decode_request, decode_result, encode
from schemas.errors import ErrorCode
from schemas.examples import FAILED_RESULT, REQUEST, REQUESTS, RESULT, RESULTS, SHORTEST_REQUEST
from schemas.messages import ImageReference, Request, Result

MINIMAL = '{"version":1,"request_id":"a","image":{"bucket":"b","key":"k"}%s}'


def test_examples_decode_to_themselves() -> None:
    assert [decode_request(encode(request)) for request in REQUESTS] == list(REQUESTS)
    assert [decode_result(encode(result)) for result in RESULTS] == list(RESULTS)


def test_a_request_is_compact_json_without_absent_fields() -> None:
    assert encode(SHORTEST_REQUEST) == (
        b'{"version":1,"request_id":"my-first","image":{"bucket":"images","key":"cats/tom.jpg"}}'
    )


def test_a_result_shows_every_field() -> None:
    document = msgspec.json.decode(encode(FAILED_RESULT))
    assert set(document) == set(Result.__struct_fields__)
    assert document["error"]["code"] == "object_not_found"
    assert document["image"]["width_px"] is None


def test_times_are_utc_with_z_whatever_zone_they_came_in() -> None:
    berlin = timezone(timedelta(hours=1))
    moved = msgspec.structs.replace(REQUEST, requested_at=datetime(2026, 11, 23, 10, 30, tzinfo=berlin))
    assert b'"requested_at":"2026-11-23T09:30:00Z"' in encode(moved)
    read = decode_request((MINIMAL % ',"requested_at":"2026-11-23T10:30:00+01:00"').encode())
    assert read.requested_at == datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert b"09:30:00Z" in encode(read)


def test_a_time_without_zone_cannot_be_put_into_a_message() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        msgspec.structs.replace(REQUEST, requested_at=datetime(2026, 11, 23))


def test_lone_surrogates_do_not_keep_a_result_from_being_published() -> None:
    broken = msgspec.structs.replace(RESULT, attributes={"file": "caf\udce9.jpg", "ok": "\U0001f600"})
    assert decode_result(encode(broken)).attributes == {"file": "caf\ufffd.jpg", "ok": "\U0001f600"}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.MESSAGE_EMPTY),
        (b" \r\n", ErrorCode.MESSAGE_EMPTY),
        (b"\xef\xbb\xbf", ErrorCode.MESSAGE_EMPTY),
        (b"\xff\xfe{\x00}\x00", ErrorCode.MESSAGE_NOT_UTF8),
        ((MINIMAL % ',"unknown":"').encode() + b"\xff", ErrorCode.MESSAGE_NOT_UTF8),
        ((MINIMAL % ',"unknown":"?"').encode().replace(b"?", b"\xff"), ErrorCode.MESSAGE_NOT_UTF8),
        ((MINIMAL % "").encode().replace(b'"k"', b'"\xed\xa0\x80"'), ErrorCode.MESSAGE_NOT_UTF8),
        ((MINIMAL % "").encode().replace(b'"k"', b'"\\ud800"'), ErrorCode.MESSAGE_NOT_JSON),
        ((MINIMAL % "").encode("utf-16-be"), ErrorCode.MESSAGE_NOT_JSON),
        (b"hello", ErrorCode.MESSAGE_NOT_JSON),
        (b"{'version': 1}", ErrorCode.MESSAGE_NOT_JSON),
        (b'{"version":1', ErrorCode.MESSAGE_NOT_JSON),
        ((MINIMAL % "").encode() + b"{}", ErrorCode.MESSAGE_NOT_JSON),
        (b"NaN", ErrorCode.MESSAGE_NOT_JSON),
        ((MINIMAL % ',"attributes":NaN').encode(), ErrorCode.MESSAGE_NOT_JSON),
        (b'{"version":-Infinity}', ErrorCode.MESSAGE_NOT_JSON),
        (b"[" * 100_000, ErrorCode.MESSAGE_NOT_JSON),
        (b'{"a":' * 100_000, ErrorCode.MESSAGE_NOT_JSON),
        ((MINIMAL % (',"unknown":' + "[" * 100_000)).encode(), ErrorCode.MESSAGE_NOT_JSON),
        (b'{"version":' + b"1" * 10_000 + b"}", ErrorCode.MESSAGE_NOT_JSON),
        (b"null", ErrorCode.MESSAGE_INVALID),
        (b"17", ErrorCode.MESSAGE_INVALID),
        (b'"text"', ErrorCode.MESSAGE_INVALID),
        (b"[]", ErrorCode.MESSAGE_INVALID),
        (b"{}", ErrorCode.MESSAGE_INVALID),
        (b'{"request_id":"a","image":{"bucket":"b","key":"k"}}', ErrorCode.MESSAGE_INVALID),
        (b'{"version":1}', ErrorCode.MESSAGE_INVALID),
        (b'{"version":1,"request_id":"a","image":{"bucket":"b"}}', ErrorCode.MESSAGE_INVALID),
        (b'{"version":1,"request_id":"a","image":{"bucket":"b","key":""}}', ErrorCode.MESSAGE_INVALID),
        (b'{"version":1,"request_id":"a","image":"s3://b/k"}', ErrorCode.MESSAGE_INVALID),
        (b'{"version":1,"image":{"bucket":"b","key":"k"}}', ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"modules":"faces"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"attributes":{"a":1}').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"requested_at":"yesterday"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"requested_at":"2026-11-23T09:30:00"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"requested_at":"0001-01-01T00:00:00+10:00"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"version":"1"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"version":true').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"version":1.0').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"request_id":""').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"request_id":7').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % f',"request_id":"{"x" * 129}"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"request_id":"a\\n"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"request_id":"a\\u0000b"').encode(), ErrorCode.MESSAGE_INVALID),
        ((MINIMAL % ',"version":2').encode(), ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
        ((MINIMAL % ',"version":0').encode(), ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
        (b'{"version":2,"jobs":[{"uri":"s3://b/k"}]}', ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
        (b'{"version":18446744073709551617}', ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
    ],
)
def test_bad_request(raw: bytes, code: ErrorCode) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_request(raw)
    assert caught.value.code is code
    assert caught.value.raw == raw
    assert 0 < len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.MESSAGE_EMPTY),
        (b"\x80", ErrorCode.MESSAGE_NOT_UTF8),
        (b"{", ErrorCode.MESSAGE_NOT_JSON),
        (b"[" * 100_000, ErrorCode.MESSAGE_NOT_JSON),
        (encode(REQUEST), ErrorCode.MESSAGE_INVALID),
        (encode(RESULT).replace(b'"ok"', b'"maybe"'), ErrorCode.MESSAGE_INVALID),
        (encode(RESULT).replace(b"0.9987", b"1.5"), ErrorCode.MESSAGE_INVALID),
        (encode(RESULT).replace(b'"version":1,', b'"version":2,'), ErrorCode.MESSAGE_VERSION_UNSUPPORTED),
    ],
)
def test_bad_result(raw: bytes, code: ErrorCode) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_result(raw)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("field", "read"),
    [
        (',"request_id":"b"', "b"),  # of keys given twice, the last counts
        (',"request_id":"caf\\u00e9 \\ud83d\\ude00"', "café \U0001f600"),
        (f',"request_id":"{"x" * 128}"', "x" * 128),
    ],
)
def test_unusual_but_valid_request(field: str, read: str) -> None:
    assert decode_request((MINIMAL % field).encode()).request_id == read


def test_unknown_fields_are_ignored_and_null_means_absent() -> None:
    raw = (MINIMAL % ',"priority":1,"modules":null,"requested_at":null').encode()
    raw = raw.replace(b'"k"', b'"k","version_id":null,"etag":null,"width":7')
    assert decode_request(raw) == Request(version=1, request_id="a", image=ImageReference("b", "k"))


@pytest.mark.parametrize(
    ("modules", "wanted"), [(None, True), ((), True), (("x",), False), (("x", "m"), True)]
)
def test_which_modules_a_request_wants(modules: tuple[str, ...] | None, wanted: bool) -> None:
    assert msgspec.structs.replace(REQUEST, modules=modules).wants("m") is wanted


def test_a_decode_error_crosses_process_borders() -> None:
    error = DecodeError(ErrorCode.MESSAGE_EMPTY, "the value is empty", b"raw")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.message, copy.raw) == (error.code, error.message, error.raw)
