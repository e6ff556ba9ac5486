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
    """Why a record was given up, as its headers tell; null where they do not."""

    code: str
    message: str
    position: RecordPosition
    attempts: int
    failed_at: datetime
    component: str

    @classmethod
    def from_headers(cls, headers: Headers) -> "DeadLetterReason":
        """Reads the reason; of headers written more than once, the last."""

        def text(name: str) -> str:
            return (last_header(headers, name) or b"").decode(errors="replace")

        return cls(
            code=text(CODE),
            message=text(MESSAGE),
            position=RecordPosition(
                text(SOURCE_TOPIC_ID),
                text(SOURCE_TOPIC),
                int(text(SOURCE_PARTITION)),
                int(text(SOURCE_OFFSET)),
                datetime.fromisoformat(text(SOURCE_TIMESTAMP)),
            ),
            attempts=int(text(ATTEMPTS)),
            failed_at=datetime.fromisoformat(text(FAILED_AT)),
            component=text(COMPONENT),
        )


def _bounded(message: str) -> str:
    return message.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
