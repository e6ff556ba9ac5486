"""Stage 2b: decode, then the module's own preprocessing."""

import time
from collections.abc import Callable, Hashable
from typing import Any

from PIL.Image import Image

from consumers.analyzer.account import Account
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.decoding import open_image
from consumers.analyzer.errors import ImageError
from consumers.analyzer.window import Task
from modules.contract import Module, ModuleTraits, bucketing
from schemas.errors import ErrorCode


class Prepare:
    """Decodes one task's image, lets the module prepare it, and hands it on with the kind of its batch."""

    def __init__(
        self,
        module: Module[Any],
        max_pixels: int,
        budget: ByteBudget,
        account: Account,
        hand_on: Callable[[Hashable, Task], None],
    ) -> None:
        self._module = module
        self._kind = bucketing(module)
        self._decode_size_px = ModuleTraits.of(module).decode_size_px
        self._max_pixels = max_pixels
        self._budget = budget
        self._account = account
        self._hand_on = hand_on

    def __call__(self, task: Task) -> None:
        started = time.monotonic()
        try:
            image = self._decode(task)
            kind = self._preprocess(task, image)
        except ImageError as error:
            raise ImageError(error.code, f"{task.uri}: {error.message}") from error.__cause__
        finally:
            task.spent.decode = (time.monotonic() - started) * 1000
            task.free_raw()
        self._hand_on(kind, task)

    def _decode(self, task: Task) -> Image:
        assert task.raw is not None
        meter = self._account.decode
        started = meter.start()
        opened = open_image(task.raw, self._max_pixels)
        found, header = task.found, opened.header
        found.format, found.width_px, found.height_px = header.format, header.width_px, header.height_px
        opened.reduce(self._decode_size_px)
        meter.stop(started, calls=0)
        task.prepared_lease = self._budget.hold(opened.memory_bytes())
        started = meter.start()
        image = opened.pixels()
        meter.stop(started)
        task.scale = (header.width_px / image.width, header.height_px / image.height)
        return image

    def _preprocess(self, task: Task, image: Image) -> Hashable:
        started = self._account.preprocess.start()
        try:
            task.prepared = self._module.preprocess(image)
            kind = self._kind(task.prepared)
            hash(kind)
        except BaseException as error:
            raise ImageError(
                ErrorCode.MODULE_ERROR, f"preprocess raised {type(error).__name__}: {error}"
            ) from error
        finally:
            self._account.preprocess.stop(started)
        assert task.prepared_lease is not None
        task.prepared_lease.keep(_size_bytes(task.prepared))
        return kind


def _size_bytes(prepared: Any) -> int | None:
    """Bytes of an array or tensor, or of an image; None for what only the module knows."""
    if isinstance(prepared, Image):
        return prepared.width * prepared.height * len(prepared.getbands())
    size: int | None = getattr(prepared, "nbytes", None)
    return size
