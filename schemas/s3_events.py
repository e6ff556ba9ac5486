"""Events that object stores publish: which images are new, and where they lie.

Stores differ in what they do to keys (percent-encoded as in a query, or plain), in whether event names
begin with `s3:`, and in how they write what they do not know (absent, null or empty).
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from schemas.codec import DecodeError
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, Moment

NEW_IMAGES = frozenset(
    f"ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload")
)  # not `ObjectCreated:PutTagging` and its like, which MinIO sends for objects that exist already

_PLAIN_KEYS = frozenset({"ceph:s3"})


class NewImage(msgspec.Struct, frozen=True, kw_only=True):
    """An object that an event says was created.

    `index` is the event's place in its record; `fallback_key` is the other reading of the key.
    """

    index: int
    image: ImageReference
    fallback_key: str | None
    created_at: datetime | None


def read_records(records: list[Any], event_name: Any = None) -> list[NewImage]:
    """Reads the list that S3 and its likes call `Records`; events of other kinds are left out.

    Args:
        event_name: what counts for records without a name of their own.

    Raises:
        DecodeError: an element is not an S3 event.
    """
    images = (_read_record(index, record, event_name) for index, record in enumerate(records))
    return [image for image in images if image is not None]


def read_eventbridge(event: dict[str, Any]) -> list[NewImage]:
    """Reads Amazon EventBridge's form of an S3 event; none where it is of another kind.

    Raises:
        DecodeError: it says "Object Created" but not which.
    """
    if event["detail-type"] != "Object Created":
        return []
    return [_new_image(0, event["detail"], event.get("time"), plain_key=True)]


def _read_record(index: int, record: Any, event_name: Any) -> NewImage | None:
    match record:
        case {"eventName": str() as name}:
            pass
        case {"s3": _} if isinstance(event_name, str):
            name = event_name
        case _:
            raise _invalid(index, "has no `eventName`")
    if name.removeprefix("s3:") not in NEW_IMAGES:
        return None
    plain_key = record.get("eventSource") in _PLAIN_KEYS
    return _new_image(index, record.get("s3"), record.get("eventTime"), plain_key)


def _new_image(index: int, entity: Any, created_at: Any, plain_key: bool) -> NewImage:
    match entity:
        case {"bucket": {"name": str() as bucket}, "object": {"key": str() as raw_key, **about}}:
            key, fallback_key = _keys(raw_key, plain_key)
        case _:
            raise _invalid(index, "does not name a bucket and an object key")
    etag = (_text(about, "eTag", "etag") or "").strip('"') or None
    return NewImage(
        index=index,
        image=ImageReference(bucket, key, _text(about, "versionId", "version-id"), etag),
        fallback_key=fallback_key,
        created_at=_moment(created_at),
    )


def _keys(raw: str, plain_key: bool) -> tuple[str, str | None]:
    decoded = _decoded(raw)
    if decoded == raw:
        return raw, None
    return (raw, decoded) if plain_key else (decoded, raw)


def _decoded(raw: str) -> str:
    try:
        return unquote_plus(raw, errors="strict")
    except UnicodeDecodeError:
        return raw


def _text(about: dict[Any, Any], *names: str) -> str | None:
    for name in names:
        value = about.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _moment(value: Any) -> datetime | None:
    try:
        return msgspec.convert(value, Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        return None  # it only informs, and is no reason to leave an image without an answer


def _invalid(index: int, problem: str) -> DecodeError:
    return DecodeError(ErrorCode.MESSAGE_INVALID, f"S3 event {index} of the record {problem}")
