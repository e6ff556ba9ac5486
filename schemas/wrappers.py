"""Removes what other systems put around a message, layer by layer, until the message itself is left."""

import base64
import binascii
from typing import Any

from schemas import codec
from schemas.codec import DecodeError
from schemas.errors import ErrorCode
from schemas.references import is_uri

MAX_LAYERS = 8
"""More than any chain of real systems makes: a CloudEvent around Connect's envelope around a JSON string
around an SNS notification around an S3 event is six."""

FRAME_BYTES = 5
"""A schema registry's frame: a zero byte and a schema id of four bytes."""


def unwrap(value: bytes) -> Any:
    """The message inside a record's value: parsed JSON that is no known wrapper, or an `s3://` reference.

    CloudEvents in binary mode and registry ids in headers leave the value plain, and the JSON of a
    CloudEvent in structured mode names itself, so no header needs to be looked at.

    Raises:
        DecodeError: not text, not JSON, or wrapped without end.
    """
    text = codec.read_text(_without_frame(value))
    document: Any = text
    for _ in range(MAX_LAYERS):
        inner = _peel(document)
        if inner is document:
            return document
        document = inner
    raise DecodeError(ErrorCode.MESSAGE_INVALID, f"the message lies in more than {MAX_LAYERS} wrappers")


def _peel(document: Any) -> Any:
    match document:
        case str() if not is_uri(document):
            return codec.read_json(document)
        case {"specversion": str(), "data": inner}:  # CloudEvents, structured
            return inner
        case {"specversion": str(), "data_base64": str() as encoded}:
            return _from_base64(encoded)
        case {"schema": _, "payload": inner} if inner is not None:  # Kafka Connect's JsonConverter
            return inner
        case {"Type": "Notification", "Message": str() as inner}:  # Amazon SNS
            return inner
    return document


def _without_frame(value: bytes) -> bytes:
    return value[FRAME_BYTES:] if value[:1] == b"\0" else value


def _from_base64(encoded: str) -> str:
    try:
        return codec.read_text(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise DecodeError(ErrorCode.MESSAGE_INVALID, "the CloudEvent's `data_base64` is not base64") from None
