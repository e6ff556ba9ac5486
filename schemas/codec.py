"""Bytes to messages and back; the one error that decoding raises."""

from typing import Any, TypeVar

import msgspec

from schemas.errors import AnalysisError, ErrorCode
from schemas.messages import VERSION, Request, Result

M = TypeVar("M", Request, Result)

BYTE_ORDER_MARK = "\ufeff"

_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)
_results = msgspec.json.Decoder(Result)


class DecodeError(AnalysisError):
    """A record's value cannot be read, or asks for what is not allowed; `raw` holds the value."""

    def __init__(self, code: ErrorCode, message: str, raw: bytes = b"") -> None:
        super().__init__(code, message)
        self.raw = raw


def encode(message: Request | Result) -> bytes:
    """Compact JSON; times in UTC with `Z`.

    Lone surrogates, which UTF-8 cannot hold, become U+FFFD: a label or an error text of a module must not
    keep its result from being published.
    """
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(message)))


def decode_request(raw: bytes) -> Request:
    """Reads a request in our own format.

    Raises:
        DecodeError: anything else than a valid request; nothing else is ever raised.
    """
    return _decode(_requests, raw)


def own_request(raw: bytes) -> Request | None:
    """Reads a request in our own format, or says that it is none without finding out why: the fast path."""
    try:
        return _requests.decode(raw.decode())
    except (ValueError, RecursionError):
        return None


def decode_result(raw: bytes) -> Result:
    """Reads a result.

    Raises:
        DecodeError: anything else than a valid result; nothing else is ever raised.
    """
    return _decode(_results, raw)


def read_text(raw: bytes) -> str:
    """The text of a value, without a byte order mark.

    Raises:
        DecodeError: it is not UTF-8.
    """
    try:
        return raw.decode().removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise DecodeError(
            ErrorCode.MESSAGE_NOT_UTF8,
            f"the value is not UTF-8 text: {error.reason} at byte {error.start}",
            raw,
        ) from None


def read_json(text: str) -> Any:
    """Any JSON, as plain Python objects.

    Raises:
        DecodeError: it is empty, not JSON, or nested too deeply.
    """
    if not text or text.isspace():
        raise DecodeError(ErrorCode.MESSAGE_EMPTY, "the value is empty")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise DecodeError(ErrorCode.MESSAGE_NOT_JSON, "the value is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise DecodeError(ErrorCode.MESSAGE_NOT_JSON, f"the value is not JSON: {error}") from None


def convert(document: Any, kind: type[M]) -> M:
    """Makes a message of parsed JSON.

    Raises:
        DecodeError: the version is not ours, or the shape is not that of `kind`. The version is looked at
            first, since the shape of a version to come is unknown.
    """
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        version = document.get("version") if isinstance(document, dict) else None
        if type(version) is int and version != VERSION:
            raise DecodeError(
                ErrorCode.MESSAGE_VERSION_UNSUPPORTED,
                f"version {version} of the format is not one this release reads (it reads {VERSION})",
            ) from None
        raise DecodeError(
            ErrorCode.MESSAGE_INVALID, f"the value is not a {kind.__name__.lower()}: {error}"
        ) from None


def _decode(decoder: msgspec.json.Decoder[M], raw: bytes) -> M:
    # Decoding from text rather than bytes: msgspec does not check UTF-8 in the fields that it skips.
    try:
        return decoder.decode(raw.decode())
    except (ValueError, RecursionError):
        return _decode_slowly(decoder, raw)


def _decode_slowly(decoder: msgspec.json.Decoder[M], raw: bytes) -> M:
    try:
        return convert(read_json(read_text(raw)), decoder.type)
    except DecodeError as error:
        raise DecodeError(error.code, error.message, raw) from None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value
