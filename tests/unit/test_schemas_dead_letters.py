from datetime import UTC, datetime, timedelta, timezone

import pytest

from schemas.dead_letters import MAX_MESSAGE_BYTES, DeadLetterReason, dead_letter_headers
from schemas.errors import ErrorCode
from schemas.examples import RESULT
from schemas.headers import Headers, last_header, result_headers
from schemas.messages import RecordPosition

POSITION = RecordPosition(
    "topic-id",
    "analysis.images",
    3,
    1043,
    datetime(2026, 11, 23, 10, 30, tzinfo=timezone(timedelta(hours=1))),
)
FAILED_AT = datetime(2026, 11, 23, 9, 30, 1, 500_000, tzinfo=UTC)
ORIGINAL: Headers = [("trace", b"\xff\x00"), ("trace", b"2"), ("empty", None)]


def headers(message: str = "bucket 'x' is refused", original: Headers = ORIGINAL) -> Headers:
    return dead_letter_headers(
        original, ErrorCode.BUCKET_NOT_ALLOWED, message, POSITION, 2, FAILED_AT, "analyzer.faces"
    )


def test_the_original_headers_come_first_untouched() -> None:
    assert list(headers()[: len(ORIGINAL)]) == list(ORIGINAL)


def test_the_reason_as_documented_and_in_connects_names() -> None:
    assert dict(headers()[len(ORIGINAL) :]) == {
        "dlq.code": b"bucket_not_allowed",
        "dlq.message": b"bucket 'x' is refused",
        "dlq.source.topic": b"analysis.images",
        "dlq.source.topic-id": b"topic-id",
        "dlq.source.partition": b"3",
        "dlq.source.offset": b"1043",
        "dlq.source.timestamp": b"2026-11-23T09:30:00Z",
        "dlq.attempts": b"2",
        "dlq.failed-at": b"2026-11-23T09:30:01.500000Z",
        "dlq.component": b"analyzer.faces",
        "dlq.version": b"1",
        "__connect.errors.topic": b"analysis.images",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"1043",
        "__connect.errors.stage": b"analyzer.faces",
        "__connect.errors.exception.class.name": b"bucket_not_allowed",
        "__connect.errors.exception.message": b"bucket 'x' is refused",
    }


def test_reading_gives_back_what_was_written() -> None:
    reason = DeadLetterReason.from_headers(headers())
    assert reason == DeadLetterReason(
        code="bucket_not_allowed",
        message="bucket 'x' is refused",
        topic="analysis.images",
        topic_id="topic-id",
        partition=3,
        offset=1043,
        timestamp=POSITION.timestamp,
        attempts=2,
        failed_at=FAILED_AT,
        component="analyzer.faces",
    )


def test_a_record_given_up_twice_tells_its_last_reason() -> None:
    again = headers("the second time", original=headers("the first time"))
    assert DeadLetterReason.from_headers(again).message == "the second time"


def test_a_long_reason_is_cut_between_characters() -> None:
    message = last_header(headers("x" + "\U0001f600" * 1000), "dlq.message")
    assert message is not None
    assert MAX_MESSAGE_BYTES - 4 < len(message) <= MAX_MESSAGE_BYTES
    assert message.decode() == "x" + "\U0001f600" * (len(message) // 4)


def test_a_reason_that_utf8_cannot_hold_is_written_all_the_same() -> None:
    assert last_header(headers("caf\udce9"), "dlq.message") == b"caf?"


def test_connects_own_dead_letters_can_be_read() -> None:
    reason = DeadLetterReason.from_headers(
        [
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"1"),
            ("__connect.errors.offset", b"9"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            ("__connect.errors.exception.message", b"Unknown magic byte!"),
        ]
    )
    assert (reason.topic, reason.partition, reason.offset) == ("orders", 1, 9)
    assert (reason.component, reason.message) == ("VALUE_CONVERTER", "Unknown magic byte!")
    assert reason.timestamp is None


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"many", b"1e9", b"2026-99-99"])
def test_broken_headers_never_raise(value: bytes | None) -> None:
    reason = DeadLetterReason.from_headers([(name, value) for name, _ in headers()])
    assert (reason.partition, reason.offset, reason.attempts) == (None, None, None)
    assert (reason.timestamp, reason.failed_at) == (None, None)


def test_result_headers() -> None:
    plain = [("status", b"ok"), ("module", b"faces"), ("request_id", RESULT.request_id.encode())]
    assert result_headers(RESULT) == plain
    traceparent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert result_headers(RESULT, traceparent) == [*plain, ("traceparent", traceparent)]
