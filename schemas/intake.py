"""What users' systems publish, turned into requests: our own format, S3 events, references, and wrappers."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from schemas import codec, references, s3_events
from schemas.codec import DecodeError
from schemas.errors import AnalysisError, ErrorCode
from schemas.headers import Headers
from schemas.messages import VERSION, ImageReference, RecordPosition, Request
from schemas.s3_events import NewImage
from schemas.wrappers import unwrap

MAX_ATTRIBUTES = 65_536
"""Characters of all attributes together: a result repeats them, and must fit its topic."""


class SkipReason(StrEnum):
    """Why a record, or one event of it, asks for nothing; counted, never dead-lettered."""

    TOMBSTONE = "tombstone"
    TEST_EVENT = "test_event"
    EVENT_TYPE = "event_type"
    NO_EVENTS = "no_events"


class IntakeItem(msgspec.Struct, frozen=True):
    """One request of a record.

    `index` is its place within the record (`RecordPosition.at` makes its source position of it).
    `fallback_key` is the key to try once when `request.image.key` does not exist: senders differ in
    whether they URL-encode keys in events.
    """

    request: Request
    index: int = 0
    fallback_key: str | None = None


class Intake(msgspec.Struct, frozen=True):
    """What one record asks for: requests to answer, and a reason for each thing that was skipped."""

    items: tuple[IntakeItem, ...] = ()
    skipped: tuple[SkipReason, ...] = ()


def read_record(
    value: bytes | None,
    headers: Headers,
    position: RecordPosition,
    allowed_buckets: Collection[str],
) -> Intake:
    """Reads one record of the images topic; a pure function of its arguments.

    A record stands or falls as a whole: one bad bucket among several events refuses them all, so that
    there is one dead letter and nothing half-answered.

    Args:
        headers: only explain a value that cannot be read; what it is shows in the value itself.

    Raises:
        DecodeError: the record goes to the dead-letter topic; nothing else is ever raised.
    """
    if value is None:
        return _skip(SkipReason.TOMBSTONE)
    try:
        request = codec.own_request(value)
        if request is not None:
            _check(request, allowed_buckets)
            return Intake((IntakeItem(request),))
        intake = _interpret(unwrap(value), position)
        for item in intake.items:
            _check(item.request, allowed_buckets)
        return intake
    except AnalysisError as error:
        raise DecodeError(error.code, error.message + _claimed_type(error.code, headers), value) from None


def _check(request: Request, allowed_buckets: Collection[str]) -> None:
    references.check_reference(request.image, allowed_buckets)
    size = sum(len(name) + len(text) for name, text in request.attributes.items())
    if size > MAX_ATTRIBUTES:
        raise DecodeError(
            ErrorCode.MESSAGE_INVALID,
            f"the attributes have {size} characters; at most {MAX_ATTRIBUTES} are passed through",
        )


def _claimed_type(code: ErrorCode, headers: Headers) -> str:
    if code not in (ErrorCode.MESSAGE_NOT_UTF8, ErrorCode.MESSAGE_NOT_JSON):
        return ""
    claimed = next((text for name, text in headers if name.lower() == "content-type" and text), None)
    return f" (its content-type header says {claimed[:100].decode(errors='replace')!r})" if claimed else ""


def _interpret(document: Any, position: RecordPosition) -> Intake:
    match document:
        case str():
            return Intake((_item(references.parse_uri(document), position),))
        case {"request_id": _} | {"image": _}:
            return Intake((IntakeItem(codec.convert(document, Request)),))
        case {"Records": [*records]}:
            return _from_events(
                s3_events.read_records(records, document.get("EventName")), len(records), position
            )
        case {"s3": _, "eventName": _}:  # as CloudEvents' own adapter for S3 has it
            return _from_events(s3_events.read_records([document]), 1, position)
        case [{"s3": _}, *_]:  # VersityGW
            return _from_events(s3_events.read_records(document), len(document), position)
        case {"detail-type": _, "detail": _}:
            return _from_events(s3_events.read_eventbridge(document), 1, position)
        case {"Event": "s3:TestEvent"}:
            return _skip(SkipReason.TEST_EVENT)
        case {"schema": _, "payload": None}:  # Kafka Connect's form of a null value
            return _skip(SkipReason.TOMBSTONE)
        case _:
            return Intake((IntakeItem(_own_or_unknown(document)),))


def _own_or_unknown(document: Any) -> Request:
    try:
        return codec.convert(document, Request)
    except DecodeError as error:
        if error.code is not ErrorCode.MESSAGE_INVALID:
            raise
        raise DecodeError(error.code, f"{error.message}; nor is it an event of an object store") from None


def _from_events(images: list[NewImage], total: int, position: RecordPosition) -> Intake:
    if not total:
        return _skip(SkipReason.NO_EVENTS)
    items = tuple(_item(new.image, position, new.index, new.fallback_key, new.created_at) for new in images)
    return Intake(items, (SkipReason.EVENT_TYPE,) * (total - len(items)))


def _item(
    image: ImageReference,
    position: RecordPosition,
    index: int = 0,
    fallback_key: str | None = None,
    requested_at: datetime | None = None,
) -> IntakeItem:
    request = Request(
        version=VERSION,
        request_id=references.derive_request_id(image, position.at(index)),
        # A request's ETag is a demand. An event's is news: the object may have been overwritten since,
        # and then the picture that is there now is the one to analyze.
        image=msgspec.structs.replace(image, etag=None),
        requested_at=requested_at,
    )
    return IntakeItem(request, index, references.usable_key(fallback_key))


def _skip(reason: SkipReason) -> Intake:
    return Intake(skipped=(reason,))
