"""Every task's end: one result, `ok` or `failed`."""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from consumers.analyzer.window import Spent, Task
from schemas.errors import AnalysisError, ErrorCode
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    ModuleIdentity,
    Result,
    Timings,
)

logger = logging.getLogger(__name__)

MAX_FAILURE_MESSAGE = 1000


class Answers:
    """Writes the results of one module."""

    def __init__(self, module: ModuleIdentity) -> None:
        self._module = module

    def succeed(self, task: Task, detections: Sequence[Detection]) -> None:
        """Answers with what the module found, in pixels of the original."""
        task.answer = self._result(task, _to_original(task, detections), None)
        task.free()

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
        task.answer = self._result(task, (), failure)
        task.free()

    def too_large(self, result: Result, size_bytes: int, limit_bytes: int) -> Result:
        """The failed result in place of one that the topic would refuse."""
        message = (
            f"{len(result.detections)} detections make a result of {size_bytes} bytes; "
            f"the limit is {limit_bytes}"
        )
        return Result(
            request_id=result.request_id,
            status="failed",
            module=result.module,
            image=result.image,
            error=Failure(ErrorCode.RESULT_TOO_LARGE, message),
            source=result.source,
            timings_ms=result.timings_ms,
            requested_at=result.requested_at,
            analyzed_at=result.analyzed_at,
        )

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
    width, height = task.found.width_px or 0, task.found.height_px or 0
    answered = []
    for detection in detections:
        box = detection.box
        left, right = _clip(box.x * across, width), _clip((box.x + box.w) * across, width)
        top, bottom = _clip(box.y * down, height), _clip((box.y + box.h) * down, height)
        scaled = Box(x=round(left, 3), y=round(top, 3), w=round(right - left, 3), h=round(bottom - top, 3))
        answered.append(Detection(scaled, tuple(detection.labels)))
    return tuple(answered)


def _clip(value: float, limit: int) -> float:
    return float(min(max(value, 0.0), limit))
