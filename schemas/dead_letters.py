"""Dead letters: the original record untouched, with the reason in its headers."""

from datetime import UTC, datetime

import msgspec

from schemas.errors import ErrorCode
from schemas.headers import Headers, last_header
from schemas.messages import RecordPosition

VERSION = 1
"""Version of these headers."""

CODE = "dlq.code"
MESSAGE = "dlq.message"
SOURCE_TOPIC = "dlq.source.topic"
SOURCE_TOPIC_ID = "dlq.source.topic-id"
SOURCE_PARTITION = "dlq.source.partition"
SOURCE_OFFSET = "dlq.source.offset"
SOURCE_TIMESTAMP = "dlq.source.timestamp"
ATTEMPTS = "dlq.attempts"
FAILED_AT = "dlq.failed-at"
COMPONENT = "dlq.component"
FORMAT_VERSION = "dlq.version"

CONNECT_TOPIC = "__connect.errors.topic"
CONNECT_PARTITION = "__connect.errors.partition"
CONNECT_OFFSET = "__connect.errors.offset"
CONNECT_STAGE = "__connect.errors.stage"
CONNECT_EXCEPTION = "__connect.errors.exception.class.name"
CONNECT_MESSAGE = "__connect.errors.exception.message"

MAX_MESSAGE_BYTES = 1024
"""Longer reasons are cut: a header must not make a record too large for the topic."""


def dead_letter_headers(
    original_headers: Headers,
    code: ErrorCode,
    message: str,
    position: RecordPosition,
    attempts: int,
    failed_at: datetime,
    component: str,
) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter: the original ones, the reason, and the reason in Kafka Connect's names.

    Args:
        position: where the record lay.
        attempts: how often it was tried, at least 1.
        failed_at: when it was given up.
        component: who gave it up, e.g. `analyzer.faces`.
    """
    topic, partition, offset = position.topic, str(position.partition), str(position.offset)
    text = _bounded(message)
    reason = {
        CODE: code,
        MESSAGE: text,
        SOURCE_TOPIC: topic,
        SOURCE_TOPIC_ID: position.topic_id,
        SOURCE_PARTITION: partition,
        SOURCE_OFFSET: offset,
        SOURCE_TIMESTAMP: _rfc3339(position.timestamp),
        ATTEMPTS: str(attempts),
        FAILED_AT: _rfc3339(failed_at),
        COMPONENT: component,
        FORMAT_VERSION: str(VERSION),
        CONNECT_TOPIC: topic,
        CONNECT_PARTITION: partition,
        CONNECT_OFFSET: offset,
        CONNECT_STAGE: component,
        CONNECT_EXCEPTION: code,
        CONNECT_MESSAGE: text,
    }
    return [*original_headers, *((name, value.encode(errors="replace")) for name, value in reason.items())]


class DeadLetterReason(msgspec.Struct, frozen=True, kw_only=True):
    """Why and where a record was given up, as far as its headers tell; None where they do not."""

    code: str | None
    message: str | None
    topic: str | None
    topic_id: str | None
    partition: int | None
    offset: int | None
    timestamp: datetime | None
    attempts: int | None
    failed_at: datetime | None
    component: str | None

    @classmethod
    def from_headers(cls, headers: Headers) -> "DeadLetterReason":
        """Reads the reason, in Kafka Connect's names where ours are missing; never raises.

        Of a header that occurs more than once the last counts: a record that was replayed and given up
        again carries both reasons.
        """
        return cls(
            code=_text(headers, CODE, CONNECT_EXCEPTION),
            message=_text(headers, MESSAGE, CONNECT_MESSAGE),
            topic=_text(headers, SOURCE_TOPIC, CONNECT_TOPIC),
            topic_id=_text(headers, SOURCE_TOPIC_ID),
            partition=_number(headers, SOURCE_PARTITION, CONNECT_PARTITION),
            offset=_number(headers, SOURCE_OFFSET, CONNECT_OFFSET),
            timestamp=_moment(headers, SOURCE_TIMESTAMP),
            attempts=_number(headers, ATTEMPTS),
            failed_at=_moment(headers, FAILED_AT),
            component=_text(headers, COMPONENT, CONNECT_STAGE),
        )


def _text(headers: Headers, *names: str) -> str | None:
    for name in names:
        value = last_header(headers, name)
        if value is not None:
            return value.decode(errors="replace")
    return None


def _number(headers: Headers, *names: str) -> int | None:
    try:
        return int(_text(headers, *names) or "")
    except ValueError:
        return None


def _moment(headers: Headers, name: str) -> datetime | None:
    try:
        return msgspec.convert(_text(headers, name), datetime)
    except msgspec.ValidationError:
        return None


def _bounded(message: str) -> str:
    return message.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
