"""Rules for what a request may point at, and ids for requests that come without one."""

import re
from collections.abc import Collection
from uuid import UUID, uuid5

import msgspec

from schemas.errors import AnalysisError, ErrorCode
from schemas.messages import ImageReference, SourcePosition

MAX_KEY_BYTES = 1024
"""Amazon's limit."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DOT_SEGMENT = re.compile(r"(?:\A|[/\\])\.{1,2}(?:[/\\]|\Z)")  # some stores take `\` for `/`
_TOKEN = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY_BYTES}}}")
_NAMESPACE = UUID("6f0a4b0e-6c1c-5d0b-9a53-0d7c3a1f6b52")


class ReferenceRefused(AnalysisError):
    """A bucket, key, version or ETag breaks the rules for what may be read."""


def check_reference(reference: ImageReference, allowed_buckets: Collection[str]) -> None:
    """Refuses what must never reach the object store.

    Slashes may lead, trail, double and backslashes may occur: such keys exist in real buckets, and they
    cannot leave theirs.

    Raises:
        ReferenceRefused: the bucket is not in `allowed_buckets`, or another part breaks its rules.
    """
    if reference.bucket not in allowed_buckets:
        raise ReferenceRefused(
            ErrorCode.BUCKET_NOT_ALLOWED, f"bucket {_shown(reference.bucket)} is not in S3_ALLOWED_BUCKETS"
        )
    broken = _broken_rule(reference.key)
    if broken:
        raise ReferenceRefused(ErrorCode.KEY_INVALID, f"key {_shown(reference.key)} {broken}")
    for name, text in (("version_id", reference.version_id), ("etag", reference.etag)):
        # Both become part of an HTTP request.
        if text is not None and not _TOKEN.fullmatch(text):
            raise ReferenceRefused(
                ErrorCode.MESSAGE_INVALID,
                f"{name} {_shown(text)} is not 1 to {MAX_KEY_BYTES} printable ASCII characters",
            )


def usable_key(key: str | None) -> str | None:
    """`key`, where it keeps the rules; None otherwise."""
    return None if key is None or _broken_rule(key) else key


def is_uri(text: str) -> bool:
    """Whether `text` is an `s3://bucket/key` reference."""
    return text.lstrip()[:5].lower() == "s3://"


def parse_uri(text: str) -> ImageReference:
    """Reads `s3://bucket/key` as the AWS command line does: the key is plain text, nothing is decoded.

    White space around it, such as a line's end, is dropped.
    """
    bucket, _, key = text.strip()[5:].partition("/")
    return ImageReference(bucket, key)


def derive_request_id(image: ImageReference, source: SourcePosition) -> str:
    """An id for a request that came without one: the same for the same record, however often it is read."""
    identity = (
        image.bucket,
        image.key,
        image.version_id or image.etag,
        source.topic_id,
        source.partition,
        source.offset,
        source.index,
    )
    return str(uuid5(_NAMESPACE, msgspec.json.encode(identity).decode()))


def _broken_rule(key: str) -> str | None:
    if not key:
        return "is empty"
    if not key.isprintable() and _CONTROL.search(key):
        return "has control characters"
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        return f"is over {MAX_KEY_BYTES} bytes of UTF-8"
    if "." in key and _DOT_SEGMENT.search(key):
        return "has `.` or `..` segments"
    return None


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")
