from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from schemas.dead_letters import (
    MAX_MESSAGE_BYTES,
    DeadLetterReason,
    dead_letter_headers,
    first_position,
    marked_letter,
    replay_headers,
    replay_mark,
    replayed_for,
    replays_of,
)
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


def test_letters_of_kafka_streams_and_of_spring_can_be_read() -> None:
    streams = DeadLetterReason.from_headers(
        [
            ("__streams.errors.exception", b"java.lang.IllegalStateException"),
            ("__streams.errors.message", b"no"),
            ("__streams.errors.topic", b"analysis.images"),
            ("__streams.errors.partition", b"3"),
            ("__streams.errors.offset", b"41"),
        ]
    )
    spring = DeadLetterReason.from_headers(
        [
            ("kafka_dlt-exception-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-message", b"no"),
            ("kafka_dlt-original-topic", b"analysis.images"),
            ("kafka_dlt-original-partition", (3).to_bytes(4, "big")),
            ("kafka_dlt-original-offset", (41).to_bytes(8, "big")),
        ]
    )
    assert streams == spring
    assert (spring.topic, spring.partition, spring.offset) == ("analysis.images", 3, 41)
    assert (spring.code, spring.message) == ("java.lang.IllegalStateException", "no")


LATER = msgspec.structs.replace(POSITION, offset=POSITION.offset + 1000)


def test_a_record_that_is_published_again_keeps_its_headers_and_its_identity() -> None:
    reason = DeadLetterReason.from_headers(headers())
    replayed = replay_headers(headers(), POSITION, reason, 2)
    assert replayed[: len(ORIGINAL)] == list(ORIGINAL)
    assert {name for name, _ in replayed[len(ORIGINAL) :]} == {"replay.of", "replay.for", "replay.count"}
    assert first_position(replayed, LATER) == POSITION
    assert replays_of(replayed) == 2
    assert replayed_for(replayed) == ("analyzer.faces", None)
    again = replay_headers(replayed, POSITION, reason, 3)
    assert replays_of(again) == 3
    assert len(again) == len(replayed)


@pytest.mark.parametrize(
    "position",
    [
        msgspec.structs.replace(POSITION, topic_id="another"),
        msgspec.structs.replace(POSITION, partition=POSITION.partition + 1),
        msgspec.structs.replace(POSITION, offset=LATER.offset),
        msgspec.structs.replace(POSITION, offset=LATER.offset + 5),
    ],
)
def test_nobody_can_take_the_identity_of_another_request(position: RecordPosition) -> None:
    reason = DeadLetterReason.from_headers([])
    assert first_position(replay_headers([], position, reason, 1), LATER) == LATER


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"topic-id 3 -1 2026-01-01T00:00:00Z",
        b"topic-id 3 3 yesterday",
        b"topic-id 3 0 0001-01-01T00:00:00+14:00",
        b"topic-id 3 0 2026-01-01T00:00:00",
    ],
)
def test_a_broken_identity_is_none(value: bytes | None) -> None:
    assert first_position([("replay.of", value)], LATER) == LATER


def test_a_record_that_was_never_published_again() -> None:
    assert first_position([], LATER) == LATER
    assert replays_of([]) == replays_of([("replay.count", b"-7")]) == 0


def test_only_a_mark_is_taken_for_one() -> None:
    mark = replay_mark("0-7")
    assert marked_letter(None, None, mark) == "0-7"
    assert marked_letter(None, b"rubbish", mark) is None
    assert marked_letter(None, None, [*mark, *headers()]) is None
    assert marked_letter(None, None, headers(original=mark)) is None


def test_a_letter_about_one_image_of_a_record_is_replayed_for_that_image() -> None:
    letter = dead_letter_headers(
        [], ErrorCode.MODULE_CRASHED, "no", POSITION, 2, FAILED_AT, "analyzer.faces", index=4
    )
    replayed = replay_headers(letter, POSITION, DeadLetterReason.from_headers(letter), 1)
    assert replayed_for(replayed) == ("analyzer.faces", 4)
