"""Stage 2b: decode, then the module's own preprocessing."""

import time
from typing import Any

from PIL.Image import Image

from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.decoding import open_image
from consumers.analyzer.errors import ImageError
from consumers.analyzer.stage import TaskQueue
from consumers.analyzer.window import Task
from modules.contract import Module, ModuleTraits
from schemas.errors import ErrorCode


class Prepare:
    """Decodes one task's image, lets the module prepare it, and hands it on to be inferred."""

    def __init__(self, module: Module[Any], max_pixels: int, budget: ByteBudget, outbox: TaskQueue) -> None:
        self._module = module
        self._decode_size_px = ModuleTraits.of(module).decode_size_px
        self._max_pixels = max_pixels
        self._budget = budget
        self._outbox = outbox

    def __call__(self, task: Task) -> None:
        started = time.monotonic()
        try:
            self._prepare(task)
        except ImageError as error:
            raise ImageError(error.code, f"{task.uri}: {error.message}") from error.__cause__
        finally:
            task.spent.decode = (time.monotonic() - started) * 1000
            task.free_raw()
        self._outbox.put(task)

    def _prepare(self, task: Task) -> None:
        assert task.raw is not None
        opened = open_image(task.raw, self._max_pixels)
        found, header = task.found, opened.header
        found.format, found.width_px, found.height_px = header.format, header.width_px, header.height_px
        opened.reduce(self._decode_size_px)
        task.prepared_lease = self._budget.hold(opened.memory_bytes())
        image = opened.pixels()
        task.scale = (header.width_px / image.width, header.height_px / image.height)
        try:
            task.prepared = self._module.preprocess(image)
        except BaseException as error:
            raise ImageError(
                ErrorCode.MODULE_ERROR, f"preprocess raised {type(error).__name__}: {error}"
            ) from error
        task.prepared_lease.keep(_size_bytes(task.prepared))


def _size_bytes(prepared: Any) -> int | None:
    """Bytes of an array or tensor, or of an image; None for what only the module knows."""
    if isinstance(prepared, Image):
        return prepared.width * prepared.height * len(prepared.getbands())
    size: int | None = getattr(prepared, "nbytes", None)
    return size
