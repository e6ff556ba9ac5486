"""Kafka record headers: names, reading, and the ones that results carry."""

from collections.abc import Sequence
from typing import TypeAlias

from schemas.messages import Result

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

STATUS = "status"
MODULE = "module"
REQUEST_ID = "request_id"
TRACEPARENT = "traceparent"


def last_header(headers: Headers, name: str) -> bytes | None:
    """The value of a header; the last one where a name occurs more than once, as Kafka's own clients do."""
    for found, value in reversed(headers):
        if found == name:
            return value
    return None


def result_headers(result: Result, traceparent: bytes | None = None) -> list[tuple[str, bytes]]:
    """Headers of a result, so that readers can filter without decoding.

    Args:
        traceparent: the request's W3C trace context, passed on unread.
    """
    headers = [
        (STATUS, result.status.encode()),
        (MODULE, result.module.name.encode()),
        (REQUEST_ID, result.request_id.encode()),
    ]
    if traceparent:
        headers.append((TRACEPARENT, traceparent))
    return headers
