"""What PostgreSQL holds about the demo's requests: rows, a table, and annotated pictures."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from PIL import Image, ImageOps
from psycopg2.extras import RealDictCursor

from infra.postgres import Connection
from infra.sql import statements
from infra.terminal import table_console
from producers.demo.samples import Sample
from producers.drawing import annotate
from producers.output import describe_detections, printable
from schemas.messages import Detection, Status

_POLL_S = 0.25
_STAGES = ("queued", "fetch", "decode", "infer", "total")


class StoredAnswer(msgspec.Struct, frozen=True):
    """One row of `results` with its rows of `detections`."""

    request_id: str
    module: str
    status: Status
    error_code: str | None
    error_message: str | None
    image_width_px: int | None
    image_height_px: int | None
    queued_ms: float | None
    fetch_ms: float | None
    decode_ms: float | None
    infer_ms: float | None
    total_ms: float | None
    detections: tuple[Detection, ...]


def read_answers(connection: Connection, request_ids: Sequence[str]) -> list[StoredAnswer]:
    """The rows that are stored by now, in the order of the ids."""
    with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(statements("demo")["answers"], {"request_ids": list(request_ids)})
        return msgspec.convert([dict(row) for row in cursor], list[StoredAnswer])


def wait_for_answers(
    connection: Connection, request_ids: Sequence[str], timeout_s: float, progress: Callable[[int], None]
) -> list[StoredAnswer]:
    """Waits until every request has a row, or until the time is over; returns what is there then."""
    deadline = time.monotonic() + timeout_s
    while True:
        answers = read_answers(connection, request_ids)
        answered = len({answer.request_id for answer in answers})
        progress(answered)
        if answered == len(request_ids) or time.monotonic() > deadline:
            return answers
        time.sleep(_POLL_S)


def print_table(samples: Mapping[str, Sample], answers: Sequence[StoredAnswer]) -> None:
    """Prints each answer, and each request that has none."""
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "shows", "module", "status", "found", *(f"{stage} ms" for stage in _STAGES))
    for column in table.columns[-len(_STAGES) :]:
        column.justify = "right"
    for answer in answers:
        sample = samples[answer.request_id]
        status = Text(answer.status, "green" if answer.status == "ok" else "red")
        times = [_ms(getattr(answer, f"{stage}_ms")) for stage in _STAGES]
        table.add_row(
            sample.name, sample.about, printable(answer.module), status, Text(_found(answer)), *times
        )
    answered = {answer.request_id for answer in answers}
    for request_id, sample in samples.items():
        if request_id not in answered:
            table.add_row(sample.name, sample.about, "", Text("no row", "bold red"))
    table_console().print(table)


def save_pictures(samples: Mapping[str, Sample], answers: Sequence[StoredAnswer], folder: Path) -> list[Path]:
    """Draws each good answer on its image; the files are named after image and module."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _save_picture(samples[answer.request_id], answer, folder)
        for answer in answers
        if answer.status == "ok"
    ]


def _save_picture(sample: Sample, answer: StoredAnswer, folder: Path) -> Path:
    target = folder / f"{sample.path.stem}.{_safe(answer.module)}.png"
    with Image.open(sample.path) as image:
        annotate(ImageOps.exif_transpose(image), answer.detections).save(target)
    return target


def _found(answer: StoredAnswer) -> str:
    if answer.error_code is not None:
        return printable(f"{answer.error_code}: {answer.error_message}")
    return describe_detections(answer.detections)


def _ms(duration_ms: float | None) -> str:
    return "" if duration_ms is None else f"{duration_ms:.0f}"


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
