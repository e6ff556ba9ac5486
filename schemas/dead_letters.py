"""Dead letters: the original record untouched, with the reason in its headers."""

from datetime import UTC, datetime
from typing import Annotated

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
SOURCE_INDEX = "dlq.source.index"
"""Which image of the record this is about; absent where it is about all."""
TRUNCATED = "dlq.truncated"
"""Set where the topic could not take the record whole."""

CONNECT_TOPIC = "__connect.errors.topic"
CONNECT_PARTITION = "__connect.errors.partition"
CONNECT_OFFSET = "__connect.errors.offset"
CONNECT_STAGE = "__connect.errors.stage"
CONNECT_EXCEPTION = "__connect.errors.exception.class.name"
CONNECT_MESSAGE = "__connect.errors.exception.message"

REPLAY_OF = "replay.of"
REPLAY_FOR = "replay.for"
REPLAY_INDEX = "replay.index"
REPLAYS = "replay.count"
"""On a record that was published again: the position it first had, the only component that is to take it, the
only image of it that is meant, and how often this has been done."""

REPLAYED = "dlq.replayed"
"""On the dead-letter topic: marks an earlier letter, `partition-offset`, as replayed."""

_SPRING = "kafka_dlt-"
_STREAMS = "__streams.errors."

ANSWERED_TOO = frozenset({ErrorCode.MODULE_CRASHED, ErrorCode.MODULE_TIMEOUT})
"""Letters of requests that have a failed result as well: they are kept to be looked into and replayed."""

_LONGEST_REPLAY_HEADER = 300

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
    index: int | None = None,
) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter: the original ones, the reason, and the reason in Kafka Connect's names.

    Args:
        position: where the record lay.
        attempts: how often it was tried, at least 1.
        failed_at: when it was given up.
        component: who gave it up, e.g. `analyzer.faces`.
        index: which image of the record, where it is about one.
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
        **({} if index is None else {SOURCE_INDEX: str(index)}),
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
    index: int | None = None
    truncated: bool = False

    @classmethod
    def from_headers(cls, headers: Headers) -> "DeadLetterReason":
        """Reads the reason, in the names of Kafka Connect, Kafka Streams or Spring where ours are missing.

        Never raises: what cannot be read is None.

        Of a header that occurs more than once the last counts: a record that was replayed and given up
        again carries both reasons.
        """
        return cls(
            code=_text(headers, CODE, CONNECT_EXCEPTION, _STREAMS + "exception", _SPRING + "exception-fqcn"),
            message=_text(
                headers, MESSAGE, CONNECT_MESSAGE, _STREAMS + "message", _SPRING + "exception-message"
            ),
            topic=_text(headers, SOURCE_TOPIC, CONNECT_TOPIC, _STREAMS + "topic", _SPRING + "original-topic"),
            topic_id=_text(headers, SOURCE_TOPIC_ID),
            partition=_number(
                headers,
                SOURCE_PARTITION,
                CONNECT_PARTITION,
                _STREAMS + "partition",
                _SPRING + "original-partition",
            ),
            offset=_number(
                headers, SOURCE_OFFSET, CONNECT_OFFSET, _STREAMS + "offset", _SPRING + "original-offset"
            ),
            timestamp=_moment(headers, SOURCE_TIMESTAMP),
            attempts=_number(headers, ATTEMPTS),
            failed_at=_moment(headers, FAILED_AT),
            component=_text(headers, COMPONENT, CONNECT_STAGE),
            index=_number(headers, SOURCE_INDEX),
            truncated=last_header(headers, TRUNCATED) is not None,
        )


def replay_headers(
    original_headers: Headers, position: RecordPosition | None, reason: DeadLetterReason, replays: int
) -> list[tuple[str, bytes | None]]:
    """The headers of a record that is published again: its own ones, without the reason, and what it is for.

    Args:
        position: where the record first lay, see `first_position`; None where nobody knows.
        reason: of its letter.
        replays: how often it has been published again, this time included.
    """
    kept = [(name, value) for name, value in original_headers if not _is_reason(name)]
    added = {
        REPLAY_OF: None if position is None else _encode_position(position),
        REPLAY_FOR: reason.component,
        REPLAY_INDEX: None if reason.index is None else str(reason.index),
        REPLAYS: str(replays),
    }
    return [*kept, *((name, text.encode()) for name, text in added.items() if text is not None)]


TRUNCATED_MARK: tuple[str, bytes | None] = (TRUNCATED, b"true")


def replay_only(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The headers that keep a record's identity, where there is no room for all of them."""
    names = (REPLAY_OF, REPLAY_FOR, REPLAY_INDEX, REPLAYS)
    found = [(name, last_header(headers, name)) for name in names]
    return [(name, value[:_LONGEST_REPLAY_HEADER]) for name, value in found if value is not None]


def replayed_for(headers: Headers) -> tuple[str | None, int | None]:
    """The only component that is to take a record, and the only image of it that is meant; None for all."""
    return _text(headers, REPLAY_FOR), _number(headers, REPLAY_INDEX)


def replay_mark(letter: str) -> list[tuple[str, bytes | None]]:
    """The headers of a record that marks a letter, by its id, as replayed; it has no key and no value."""
    return [(REPLAYED, letter.encode())]


def marked_letter(key: bytes | None, value: bytes | None, headers: Headers) -> str | None:
    """The id of the letter that a record of the dead-letter topic marks; None for a letter.

    A letter has more than this one header, whatever its publisher put there.
    """
    if key is not None or value is not None or [name for name, _ in headers] != [REPLAYED]:
        return None
    return (headers[0][1] or b"").decode(errors="replace")


def replays_of(headers: Headers) -> int:
    """How often a record has been published again."""
    return max(_number(headers, REPLAYS) or 0, 0)


def _encode_position(position: RecordPosition) -> str:
    return f"{position.topic_id} {position.partition} {position.offset} {_rfc3339(position.timestamp)}"


def first_position(headers: Headers, position: RecordPosition) -> RecordPosition:
    """Where a record that was published again lay at first; its own position where it was not.

    Only a place earlier in the same partition of the same topic is believed: its answer exists already, so
    that nobody can take the identity of a request to come.
    """
    parts = (_text(headers, REPLAY_OF) or "").split(" ")
    if len(parts) != 4 or parts[0] != position.topic_id or parts[1] != str(position.partition):
        return position
    try:
        offset = int(parts[2])
        # A time without a zone is refused, and one that UTC has no year for.
        timestamp = msgspec.convert(parts[3], Annotated[datetime, msgspec.Meta(tz=True)]).astimezone(UTC)
    except (ValueError, OverflowError):
        return position
    if not 0 <= offset < position.offset:
        return position
    return RecordPosition(position.topic_id, position.topic, position.partition, offset, timestamp)


def _is_reason(name: str) -> bool:
    return name.startswith(("dlq.", "replay.", "__connect.errors.", _STREAMS, _SPRING))


def _text(headers: Headers, *names: str) -> str | None:
    for name in names:
        value = last_header(headers, name)
        if value is not None:
            return value.decode(errors="replace")
    return None


def _number(headers: Headers, *names: str) -> int | None:
    for name in names:
        value = last_header(headers, name)
        if value is not None:
            return _big_endian(value) if name.startswith(_SPRING) else _decimal(value)
    return None


def _decimal(value: bytes) -> int | None:
    try:
        return int(value)
    except ValueError:
        return None


def _big_endian(value: bytes) -> int | None:
    return int.from_bytes(value, "big", signed=True) if len(value) in (4, 8) else None


def _moment(headers: Headers, name: str) -> datetime | None:
    try:
        return msgspec.convert(_text(headers, name), datetime)
    except msgspec.ValidationError:
        return None


def _bounded(message: str) -> str:
    return message.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
