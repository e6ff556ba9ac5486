"""What users' systems publish, turned into requests: our own format, S3 events, references, and wrappers."""

from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec

from schemas import codec
from schemas.codec import DecodeError
from schemas.errors import AnalysisError
from schemas.messages import RecordPosition, Request
from schemas.references import check_reference


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
    """What one record asks for: requests to answer, and the reasons of what was skipped."""

    items: tuple[IntakeItem, ...] = ()
    skipped: tuple[SkipReason, ...] = ()


def read_record(
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    position: RecordPosition,
    allowed_buckets: Collection[str],
) -> Intake:
    """Reads one record of the images topic; a pure function of its arguments.

    Raises:
        DecodeError: the record goes to the dead-letter topic as a whole; nothing else is ever raised.
    """
    if value is None:
        return Intake(skipped=(SkipReason.TOMBSTONE,))
    request = codec.decode_request(value)
    try:
        check_reference(request.image, allowed_buckets)
    except AnalysisError as error:
        raise DecodeError(error.code, error.message, value) from None
    return Intake((IntakeItem(request),))
