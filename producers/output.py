"""How results and uploads are printed: a line a person reads, or a JSON object a line."""

import sys
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from schemas.messages import Detection, Failure, Label, Result

UploadStatus = Literal[
    "would_send", "sent", "already_sent", "not_sent", "ok", "failed", "refused", "unanswered"
]

_MARKS: dict[str, str] = {"ok": "green", "sent": "green", "already_sent": "cyan", "would_send": "cyan"}
_SHOWN_LABELS = 6


class UploadRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one file: printed once where nothing is waited for, once per answer otherwise."""

    path: str
    status: UploadStatus
    request_id: str | None = None
    bucket: str | None = None
    key: str | None = None
    error: Failure | None = None
    result: Result | None = None


R = TypeVar("R", UploadRecord, Result)


def upload_line(record: UploadRecord) -> str:
    """One upload as a line."""
    if record.result is not None:
        return f"{printable(record.path)}  {_answer(record.result)}"
    if record.error is not None:
        return f"{printable(record.path)}  {_failure(record.error)}"
    address = f"s3://{record.bucket}/{record.key}" if record.key else ""
    return f"{printable(record.path)}  {printable(address)}".rstrip()


def result_line(result: Result) -> str:
    """One result as a line: the image, then what was found or why not."""
    name = result.attributes.get("file") or f"s3://{result.image.bucket}/{result.image.key}"
    when = result.analyzed_at.astimezone().strftime("%H:%M:%S")
    return f"{when}  {printable(name)}  {_answer(result)}"


def describe_detections(detections: tuple[Detection, ...]) -> str:
    """The best labels with their scores, those of the same name together, in the order of the answer."""
    if not detections:
        return "nothing found"
    scores: dict[str, list[float]] = {}
    for detection in detections:
        best = best_label(detection)
        scores.setdefault("no label" if best is None else best.label, []).append(best.score if best else 0.0)
    shown = [_label(name, found) for name, found in list(scores.items())[:_SHOWN_LABELS]]
    more = len(scores) - len(shown)
    return ", ".join(shown) + (f" and {more} other labels" if more else "")


def best_label(detection: Detection) -> Label | None:
    """The label with the highest score, the first of equals; None where there is none."""
    return max(detection.labels, key=lambda label: label.score, default=None)


def printable(text: str) -> str:
    """Text from outside, without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _answer(result: Result) -> str:
    found = _failure(result.error) if result.error else describe_detections(result.detections)
    total_ms = result.timings_ms.total
    took = "" if total_ms is None else f" in {total_ms:.0f} ms"
    return f"{printable(result.module.name)}: {found}{took}"


def _failure(error: Failure) -> str:
    return f"{printable(error.code)}: {printable(error.message)}"


def _label(name: str, scores: list[float]) -> str:
    if len(scores) == 1:
        return f"{printable(name)} {scores[0]:.2f}"
    return f"{len(scores)} x {printable(name)} {min(scores):.2f} to {max(scores):.2f}"


class Printer:
    """Writes records to stdout: JSON where asked for or where no terminal is, else coloured lines."""

    def __init__(self, *, json: bool) -> None:
        self._json = json or not sys.stdout.isatty()

    def upload(self, record: UploadRecord) -> None:
        """Prints what became of a file."""
        self._write(record, record.status, upload_line)

    def result(self, result: Result) -> None:
        """Prints a result."""
        self._write(result, result.status, result_line)

    def _write(self, record: R, status: str, line: Callable[[R], str]) -> None:
        if self._json:
            print(msgspec.json.encode(record).decode(), flush=True)
            return
        from rich.console import Console
        from rich.text import Text

        text = Text.assemble((f"{status:<12}", _MARKS.get(status, "red")), line(record))
        Console().print(text, soft_wrap=True)
