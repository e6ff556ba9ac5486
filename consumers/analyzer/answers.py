"""Every task's end: one result, `ok` or `failed`."""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from consumers.analyzer.window import Spent, Task
from schemas.codec import encode
from schemas.errors import AnalysisError, ErrorCode
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    Label,
    ModuleIdentity,
    Result,
    Timings,
)

logger = logging.getLogger(__name__)

MAX_FAILURE_MESSAGE = 1000
MAX_RESULT_BYTES = 1_000_000
"""Largest encoded result: what the topic takes, less room for headers and Kafka's own framing."""


class Answers:
    """Writes the results of one module."""

    def __init__(self, module: ModuleIdentity) -> None:
        self._module = module

    def succeed(self, task: Task, detections: Sequence[Detection]) -> None:
        """Answers with what the module found, in pixels of the original."""
        self._finish(task, self._result(task, _to_original(task, detections), None))

    def fail(self, task: Task, error: AnalysisError) -> None:
        """Answers that the image cannot be analyzed."""
        logger.info(
            "request %s failed: %s: %s",
            task.request.request_id,
            error.code,
            error.message,
            extra={"source": f"{task.source.topic}[{task.source.partition}]@{task.source.offset}"},
        )
        failure = Failure(error.code, error.message[:MAX_FAILURE_MESSAGE])
        self._finish(task, self._result(task, (), failure))

    def _finish(self, task: Task, result: Result) -> None:
        """Encodes here, in a stage's thread, so that the main thread has only to send.

        Last of all comes `answer`, which tells the main thread that the task is done.
        """
        encoded = encode(result)
        if len(encoded) > MAX_RESULT_BYTES:
            message = (
                f"{len(result.detections)} detections make a result of {len(encoded)} bytes; "
                f"the limit is {MAX_RESULT_BYTES}"
            )
            result = self._result(task, (), Failure(ErrorCode.RESULT_TOO_LARGE, message))
            encoded = encode(result)
        task.encoded = encoded
        task.free()
        task.answer = result

    def _result(self, task: Task, detections: tuple[Detection, ...], failure: Failure | None) -> Result:
        request, found = task.request, task.found
        return Result(
            request_id=request.request_id,
            status="failed" if failure else "ok",
            module=self._module,
            image=AnalyzedImage(
                bucket=request.image.bucket,
                key=found.key,
                version_id=found.version_id,
                etag=found.etag,
                width_px=found.width_px,
                height_px=found.height_px,
                size_bytes=found.size_bytes,
                format=found.format,
            ),
            detections=detections,
            error=failure,
            source=task.source,
            timings_ms=_timings(task.spent, time.monotonic() - task.taken_at),
            requested_at=request.requested_at,
            analyzed_at=datetime.now(UTC),
            attributes=request.attributes,
        )


def _timings(spent: Spent, since_taken_s: float) -> Timings:
    queued = spent.queued or 0.0
    return Timings(
        queued=_rounded(spent.queued),
        fetch=_rounded(spent.fetch),
        decode=_rounded(spent.decode),
        infer=_rounded(spent.infer),
        total=_rounded(queued + since_taken_s * 1000),
    )


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _to_original(task: Task, detections: Sequence[Detection]) -> tuple[Detection, ...]:
    across, down = task.scale
    width, height = float(task.found.width_px or 0), float(task.found.height_px or 0)
    answered = []
    for detection in detections:
        box = detection.box
        left, right = min(max(box.x * across, 0.0), width), min(max((box.x + box.w) * across, 0.0), width)
        top, bottom = min(max(box.y * down, 0.0), height), min(max((box.y + box.h) * down, 0.0), height)
        # Subclasses of float and str, such as NumPy's, are no JSON.
        scaled = Box(
            float(round(left, 3)),
            float(round(top, 3)),
            float(round(right - left, 3)),
            float(round(bottom - top, 3)),
        )
        labels = [Label(str(label.label), float(label.score)) for label in detection.labels]
        answered.append(Detection(scaled, tuple(labels)))
    return tuple(answered)
