"""Stage 2b: decode, then the module's own preprocessing."""

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from consumers.analyzer.account import Account
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.ceiling import is_out_of_memory
from consumers.analyzer.checksums import spoiled_md5
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.window import Task
from infra.images.decoding import OpenImage, open_image
from infra.images.errors import ImageError
from modules.contract import Module, ModuleTraits, bucketing
from schemas.errors import ErrorCode

if TYPE_CHECKING:
    from consumers.analyzer.gpu_decoding import TensorDecoder

OF_THE_BYTES = frozenset(
    {
        ErrorCode.IMAGE_CORRUPT,
        ErrorCode.IMAGE_FORMAT_UNSUPPORTED,
        ErrorCode.IMAGE_NOT_RECOGNIZED,
        ErrorCode.IMAGE_TOO_LARGE,
    }
)
"""What bytes that were spoiled on their way look like."""


class Prepare:
    """Decodes one task's image, lets the module prepare it, and hands it on with the kind of its batch.

    Args:
        fetch_again: takes a task back whose bytes may have been spoiled on their way from the store.
        tensors: decodes on the device, for a module that has `preprocess_tensor`.
    """

    def __init__(
        self,
        module: Module[Any],
        max_pixels: int,
        budget: ByteBudget,
        account: Account,
        flight: FlightRecorder,
        hand_on: Callable[[Hashable, Task], None],
        fetch_again: Callable[[Task], None],
        tensors: "TensorDecoder | None" = None,
    ) -> None:
        self._module: Any = module
        self._kind = bucketing(module)
        self._decode_size_px = ModuleTraits.of(module).decode_size_px
        self._max_pixels = max_pixels
        self._budget = budget
        self._account = account
        self._flight = flight
        self._hand_on = hand_on
        self._fetch_again = fetch_again
        self._tensors = tensors

    def __call__(self, task: Task) -> None:
        started = time.monotonic()
        spoiled = None
        try:
            self._flight.hold([task])
            opened = self._open(task)
            self._flight.release([task])  # waiting for memory is no hang
            task.prepared_lease = self._budget.hold(opened.memory_bytes())
            self._flight.hold([task])
            kind = self._prepare(task, opened)
        except ImageError as error:
            spoiled = spoiled_md5(task) if error.code in OF_THE_BYTES else None
            if spoiled is None:
                raise ImageError(error.code, f"{task.uri}: {error.message}") from error.__cause__
        finally:
            self._flight.release([task])
            task.spent.decode = (time.monotonic() - started) * 1000
            task.free_raw()
        if spoiled is not None:
            task.free()
            task.refused_md5 = spoiled
            self._fetch_again(task)
        else:
            self._hand_on(kind, task)

    def _open(self, task: Task) -> OpenImage:
        assert task.raw is not None
        started = self._account.decode.start()
        opened = open_image(task.raw, self._max_pixels)
        found, header = task.found, opened.header
        found.format, found.width_px, found.height_px = header.format, header.width_px, header.height_px
        opened.reduce(self._decode_size_px)
        self._account.decode.stop(started, calls=0)
        return opened

    def _prepare(self, task: Task, opened: OpenImage) -> Hashable:
        if self._tensors is not None and task.raw is not None:
            started = self._account.decode.start()
            tensor = self._tensors.decode(opened, task.raw)
            self._account.decode.stop(started, calls=0 if tensor is None else 1)
            if tensor is not None:
                with suppress(NoMemory):  # the host has more: there the image is decoded reduced
                    return self._preprocess(task, self._module.preprocess_tensor, tensor)
        started = self._account.decode.start()
        image = opened.pixels()
        self._account.decode.stop(started)
        across, down = opened.header.width_px / image.width, opened.header.height_px / image.height
        task.scale = (across, down)
        return self._preprocess(task, self._module.preprocess, image)

    def _preprocess(self, task: Task, preprocess: Callable[[Any], Any], image: Any) -> Hashable:
        started = self._account.preprocess.start()
        try:
            task.prepared = preprocess(image)
            kind = self._kind(task.prepared)
            hash(kind)
        except BaseException as error:
            if is_out_of_memory(error) and not isinstance(image, Image):
                raise NoMemory from None
            raise ImageError(
                ErrorCode.MODULE_ERROR, f"preprocess raised {type(error).__name__}: {error}"
            ) from error
        finally:
            self._account.preprocess.stop(started)
        assert task.prepared_lease is not None
        task.prepared_lease.keep(_size_bytes(task.prepared))
        return kind


class NoMemory(Exception):
    """The device has no room for an image that was decoded there."""


def _size_bytes(prepared: Any) -> int | None:
    """Bytes of an array or tensor, or of an image; None for what only the module knows."""
    if isinstance(prepared, Image):
        return prepared.width * prepared.height * len(prepared.getbands())
    size: int | None = getattr(prepared, "nbytes", None)
    return size
