"""Results as PostgreSQL has them: which ones, in which order, and back into messages."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg2.extras import execute_values

from gateway.problems import Refused
from infra.postgres import Cursor
from schemas.errors import ErrorCode
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    Label,
    ModuleIdentity,
    Result,
    SourcePosition,
    Status,
    Timings,
)

IDENTITY = (
    "request_timestamp",
    "source_topic_id",
    "source_partition",
    "source_offset",
    "source_index",
    "module",
    "module_version",
)
"""The primary key of `results`, in its order, which is the order of every list, newest first."""

_RESULT = f"""
SELECT {", ".join(f"r.{column}" for column in IDENTITY)},
       r.source_topic, r.request_id, r.message_version, r.status, r.error_code, r.error_message,
       r.image_bucket, r.image_key, r.image_version_id, r.image_etag, r.image_width_px, r.image_height_px,
       r.image_size_bytes, r.image_format, r.queued_ms, r.fetch_ms, r.decode_ms, r.infer_ms, r.total_ms,
       r.requested_at, r.analyzed_at, r.attributes
FROM results AS r
"""  # noqa: S608 - built from the names above

_DETECTIONS = f"""
SELECT {", ".join(f"d.{column}" for column in IDENTITY)},
       d.box_x_px, d.box_y_px, d.box_w_px, d.box_h_px, d.labels
FROM (VALUES %s) AS wanted ({", ".join(IDENTITY)})
JOIN detections AS d USING ({", ".join(IDENTITY)})
ORDER BY d.detection_number
"""  # noqa: S608 - as above

_TEMPLATE = "(%s::timestamptz, %s, %s::integer, %s::bigint, %s::integer, %s, %s)"

_PLAIN = {
    "module": "r.module = %s",
    "status": "r.status = %s",
    "error_code": "r.error_code = %s",
    "key_prefix": "starts_with(r.image_key, %s)",
    "since": "r.request_timestamp >= %s",
    "until": "r.request_timestamp < %s",
}
"""Conditions with a field of `Wanted` as it is."""

Identity = tuple[datetime, str, int, int, int, str, str]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which results a list shows; None for any."""

    request_ids: Sequence[str] = ()
    module: str | None = None
    label: str | None = None
    """A detection has it as its best label, with a score of `min_score` or more."""
    min_score: float | None = None
    status: Status | None = None
    error_code: str | None = None
    key_prefix: str | None = None
    attribute: tuple[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: Identity | None = None
    """Where the page before ended."""


class Page(msgspec.Struct, frozen=True):
    """Some results, and how to ask for those after them; None at the end."""

    results: list[Result]
    cursor: str | None


def read_page(cursor: Cursor, wanted: Wanted, limit: int) -> Page:
    """The newest results that fit, `limit` at most."""
    conditions, values = _conditions(wanted)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(f"r.{column} DESC" for column in IDENTITY)
    cursor.execute(f"{_RESULT} {where} ORDER BY {order} LIMIT %s", (*values, limit + 1))
    rows = cursor.fetchall()
    results = list(_with_detections(cursor, rows[:limit]))
    last = rows[limit - 1][: len(IDENTITY)] if len(rows) > limit else None
    return Page(results, None if last is None else write_cursor(last))


def write_cursor(identity: Identity) -> str:
    """An opaque name for a place in a list."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(identity)).decode().rstrip("=")


def read_cursor(text: str) -> Identity:
    """The place that a cursor names.

    Raises:
        Refused: nobody made this cursor.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        identity: Identity = msgspec.msgpack.decode(raw, type=Identity)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise Refused(ErrorCode.USAGE, f"cursor: {text!r} is not one that this service gave") from None
    return identity


def _conditions(wanted: Wanted) -> tuple[list[str], list[Any]]:
    given = [(text, getattr(wanted, name)) for name, text in _PLAIN.items()]
    conditions = [text for text, value in given if value is not None]
    values = [value for _, value in given if value is not None]
    if wanted.request_ids:
        conditions.append("r.request_id = ANY(%s)")
        values.append(list(wanted.request_ids))
    if wanted.attribute is not None:
        conditions.append("r.attributes @> %s::jsonb")
        values.append(msgspec.json.encode(dict([wanted.attribute])).decode())
    if wanted.label is not None or wanted.min_score is not None:
        text, more = _detected(wanted)
        conditions.append(text)
        values += more
    if wanted.before is not None:
        # The first alone prunes partitions; the second is exact.
        columns = ", ".join(f"r.{column}" for column in IDENTITY)
        conditions += ["r.request_timestamp <= %s", f"({columns}) < {_TEMPLATE}"]
        values += [wanted.before[0], *wanted.before]
    return conditions, values


def _detected(wanted: Wanted) -> tuple[str, list[Any]]:
    same = " AND ".join(f"d.{column} = r.{column}" for column in IDENTITY)
    text = f"SELECT 1 FROM detections AS d WHERE {same}"  # noqa: S608 - names from above
    values: list[Any] = []
    if wanted.label is not None:
        text += " AND d.label = %s"
        values.append(wanted.label)
    if wanted.min_score is not None:
        text += " AND d.score >= %s"
        values.append(wanted.min_score)
    return f"EXISTS ({text})", values


def _with_detections(cursor: Cursor, rows: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
    found: Mapping[Identity, list[Detection]] = _detections(cursor, [row[: len(IDENTITY)] for row in rows])
    for row in rows:
        yield _result(row, found[row[: len(IDENTITY)]])


def _detections(cursor: Cursor, identities: Iterable[Any]) -> "defaultdict[Identity, list[Detection]]":
    found: defaultdict[Identity, list[Detection]] = defaultdict(list)
    wanted = list(identities)
    if wanted:
        for row in execute_values(cursor, _DETECTIONS, wanted, _TEMPLATE, len(wanted), fetch=True):
            *identity, x, y, w, h, labels = row
            found[tuple(identity)].append(
                Detection(Box(x, y, w, h), tuple(Label(one["label"], one["score"]) for one in labels))
            )
    return found


def _result(row: tuple[Any, ...], detections: Sequence[Detection]) -> Result:
    (
        (timestamp, topic_id, partition, offset, index, module, module_version),
        (topic, request_id, version, status, error_code, error_message),
        (bucket, key, version_id, etag, width_px, height_px, size_bytes, image_format),
        (queued, fetch, decode, infer, total),
        (requested_at, analyzed_at, attributes),
    ) = row[:7], row[7:13], row[13:21], row[21:26], row[26:]
    return Result(
        version=version,
        request_id=request_id,
        status=status,
        module=ModuleIdentity(module, module_version),
        image=AnalyzedImage(
            bucket=bucket,
            key=key,
            version_id=version_id,
            etag=etag,
            width_px=width_px,
            height_px=height_px,
            size_bytes=size_bytes,
            format=image_format,
        ),
        detections=tuple(detections),
        error=None if error_code is None else Failure(error_code, error_message or ""),
        source=SourcePosition(topic_id, topic, partition, offset, index, timestamp.astimezone(UTC)),
        timings_ms=Timings(queued=queued, fetch=fetch, decode=decode, infer=infer, total=total),
        requested_at=requested_at,
        analyzed_at=analyzed_at,
        attributes=attributes,
    )


def count_results(cursor: Cursor, wanted: Wanted) -> int:
    """How many results fit."""
    conditions, values = _conditions(wanted)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    cursor.execute(f"SELECT count(*) FROM results AS r {where}", values)  # noqa: S608 - built from our own names
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def read_page_by_number(cursor: Cursor, wanted: Wanted, number: int, size: int) -> list[Result]:
    """A page of the list by request id, last first, as the old server had it: the later, the slower."""
    conditions, values = _conditions(wanted)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    cursor.execute(
        f"{_RESULT} {where} ORDER BY r.request_id DESC, r.module LIMIT %s OFFSET %s",
        (*values, size, (number - 1) * size),
    )
    return list(_with_detections(cursor, cursor.fetchall()))
