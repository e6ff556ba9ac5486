"""Results as rows: the columns, and the text that COPY reads."""

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec
from psycopg2 import sql

from infra.sql import statements
from schemas.messages import Detection, Label, Result

_COPIED = {
    "request_timestamp": "source.timestamp",
    "source_topic_id": "source.topic_id",
    "source_partition": "source.partition",
    "source_offset": "source.offset",
    "source_index": "source.index",
    "module": "module.name",
    "module_version": "module.version",
    "source_topic": "source.topic",
    "request_id": "request_id",
    "message_version": "version",
    "status": "status",
    "image_bucket": "image.bucket",
    "image_key": "image.key",
    "image_version_id": "image.version_id",
    "image_etag": "image.etag",
    "image_width_px": "image.width_px",
    "image_height_px": "image.height_px",
    "image_size_bytes": "image.size_bytes",
    "image_format": "image.format",
    "queued_ms": "timings_ms.queued",
    "fetch_ms": "timings_ms.fetch",
    "decode_ms": "timings_ms.decode",
    "infer_ms": "timings_ms.infer",
    "total_ms": "timings_ms.total",
    "requested_at": "requested_at",
    "analyzed_at": "analyzed_at",
}
"""Columns of `results` that hold a field of the result as it is."""

RESULT_COLUMNS = (*_COPIED, "error_code", "error_message", "detection_count", "attributes")
DETECTION_COLUMNS = (
    "detection_number",
    "label",
    "score",
    "box_x_px",
    "box_y_px",
    "box_w_px",
    "box_h_px",
    "labels",
)

_copied = attrgetter(*_COPIED.values())
_json = msgspec.json.Encoder()
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}


def sink_statements() -> dict[str, sql.Composable]:
    """The statements of `sink.sql` with the column lists filled in."""
    columns = {
        "result_columns": sql.SQL(", ").join(map(sql.Identifier, RESULT_COLUMNS)),
        "result_updates": sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in RESULT_COLUMNS
        ),
        "detection_columns": sql.SQL(", ").join(map(sql.Identifier, DETECTION_COLUMNS)),
    }
    return {name: sql.SQL(text).format(**columns) for name, text in statements("sink").items()}


def copy_results(results: Iterable[Result]) -> bytes:
    """`ordinal` and RESULT_COLUMNS of each result, in COPY's text format.

    Raises:
        UnicodeEncodeError: a text has a lone surrogate, which UTF-8 cannot hold.
    """
    return _lines((ordinal, *_result_values(result)) for ordinal, result in enumerate(results))


def copy_detections(results: Iterable[Result]) -> bytes:
    """`ordinal` of the result and DETECTION_COLUMNS of each detection, in COPY's text format.

    Raises:
        UnicodeEncodeError: a label has a lone surrogate, which UTF-8 cannot hold.
    """
    return _lines(
        (ordinal, number, *_detection_values(detection))
        for ordinal, result in enumerate(results)
        for number, detection in enumerate(result.detections)
    )


def _result_values(result: Result) -> tuple[object, ...]:
    error = result.error
    return (
        *_copied(result),
        error.code if error else None,
        error.message if error else None,
        len(result.detections),
        _json.encode(result.attributes).decode(),
    )


def _detection_values(detection: Detection) -> tuple[object, ...]:
    box, best = detection.box, _best(detection.labels)
    return (
        best.label if best else None,
        best.score if best else None,
        box.x,
        box.y,
        box.w,
        box.h,
        _json.encode(detection.labels).decode(),
    )


def _best(labels: Sequence[Label]) -> Label | None:
    return max(labels, key=attrgetter("score")) if labels else None


def _lines(rows: Iterator[tuple[object, ...]]) -> bytes:
    return "".join("\t".join(map(_field, row)) + "\n" for row in rows).encode()


def _field(value: object) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, str):
        return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)
    return str(value)
