"""What an analyzer module is: two attributes, three methods, and a few optional extras.

A module needs no base class and no import from here. Images come upright and in RGB (transparency laid
on white), and may have been decoded at a reduced scale, see `ModuleTraits.decode_size_px`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from PIL.Image import Image

from modules.errors import ModuleInvalid
from schemas.messages import Box, Detection, Label

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AsynchronousModule",
    "Box",
    "BucketedModule",
    "Detection",
    "Label",
    "Module",
    "ModuleTraits",
    "TensorModule",
    "bucketing",
    "works_ahead",
]

T = TypeVar("T")
H = TypeVar("H")


class Module(Protocol[T]):
    """Loads a model, then turns images into detections; `T` is whatever `preprocess` makes for `infer`.

    The constructor takes no arguments and does no work: it also runs where a module is only listed.
    """

    name: str
    """Names the consumer group `analyzer.<name>` and stands in each result: letters, digits, `._-`."""
    version: str
    """Stands in each result; change it whenever the answers may change."""

    def load(self, device: str) -> None:
        """Loads the model and warms it up, so that the first image takes no longer than the next.

        Called by each worker process once, before anything else; readiness waits for it. What it raises
        ends the worker with the code `module_load_failed`.

        Args:
            device: where to run: `cpu`, or `cuda:N` in PyTorch's words.
        """
        ...

    def preprocess(self, image: Image) -> T:
        """Makes one image ready for a batch: resize, convert, normalize; no work on the device.

        Called by several image threads at once, so it must not write to shared state. What it raises
        fails this image alone: its result says `failed` with the code `module_error`.

        Args:
            image: upright, RGB; the module may keep it or change it.
        """
        ...

    def infer(self, batch: Sequence[T]) -> Sequence[Sequence[Detection]]:
        """Answers a batch: one sequence of detections per image, in the batch's order.

        Called by one thread, one batch at a time, with 1 to `max_batch` items in no promised grouping
        (the conformance check also tries none). When it raises, its images are tried again in smaller
        batches, until those that raise are alone and are answered `failed` with the code `module_error`.
        An answer of another length, a score outside [0, 1] or a box that is not finite is
        `module_output_invalid`.

        Returns:
            Boxes in pixels of the image that `preprocess` was given; the worker scales them to the original.
        """
        ...


class BucketedModule(Module[T], Protocol[T]):
    """A module that says which of its items may share a batch."""

    def bucket(self, prepared: T) -> Hashable:
        """Names the kind of a prepared image: a batch holds items of one kind only, the oldest first.

        Where a module has no such method, see `bucketing`. Called by the image threads; it must be quick.
        """
        ...


def bucketing(module: Module[Any]) -> Callable[[Any], Hashable]:
    """What tells a module's prepared images apart into kinds: its own `bucket`, or else their `shape`.

    What has no `shape`, unlike an array or a tensor, is all of one kind.
    """
    own: Callable[[Any], Hashable] = getattr(module, "bucket", _shape)
    return own


def _shape(prepared: Any) -> Hashable:
    shape = getattr(prepared, "shape", None)
    return None if shape is None else tuple(shape)


class AsynchronousModule(Module[T], Protocol[T, H]):
    """A module whose device works on by itself: while it does, the next batch is made ready.

    A module that does so on some devices only sets `asynchronous` to False in `load` on the others, where
    `submit` would do all the work before it returns.

    `collect(submit(batch))` answers as `infer(batch)` does. Both are called by the one thread that owns the
    device: `submit` of the next batch may come before `collect` of this one, never more than one ahead, and
    each handle is collected once, in the order of submission. What either raises counts as raised by `infer`.
    """

    asynchronous: bool

    def submit(self, batch: Sequence[T]) -> H:
        """Sends a batch on its way (copy to the device, network) and returns without waiting for it."""
        ...

    def collect(self, handle: H) -> Sequence[Sequence[Detection]]:
        """Waits for a batch and answers it."""
        ...


class TensorModule(Module[T], Protocol[T]):
    """A module that also takes images which were decoded on its device, see `ANALYZER_JPEG_DECODER`."""

    def preprocess_tensor(self, image: "Tensor") -> T:
        """Makes one image ready for a batch, on the device; otherwise as `preprocess`.

        Args:
            image: upright, bytes (3, height, width), RGB, at full size whatever `decode_size_px` says.
        """
        ...


def works_ahead(module: Module[Any]) -> bool:
    """Whether batches are to be submitted ahead to a loaded module."""
    able = hasattr(module, "submit") and hasattr(module, "collect")
    return able and bool(getattr(module, "asynchronous", True))


class ModuleTraits(msgspec.Struct, frozen=True, kw_only=True):
    """A module's limits: its optional attributes of these names, or the defaults.

    Read once `load` has returned, which may fit them to the device.
    """

    max_batch: int = 16
    """Images that one call of `infer` may be given at most."""
    decode_size_px: int | None = None
    """A JPEG may be decoded at 1/2, 1/4 or 1/8 scale while both sides keep this many pixels; None: never."""
    timeout_s: float = 60.0
    """A worker in which one call of `preprocess` or `infer` takes longer than this many seconds is ended; an
    image that does so alone is answered `failed` with the code `module_timeout`."""

    @classmethod
    def of(cls, module: Module[Any]) -> "ModuleTraits":
        """Reads the limits of a module.

        Raises:
            ModuleInvalid: an attribute has the wrong type or is not positive.
        """
        given = {field: getattr(module, field) for field in cls.__struct_fields__ if hasattr(module, field)}
        try:
            traits = msgspec.convert(given, cls)
        except msgspec.ValidationError as error:
            raise ModuleInvalid(f"module {module.name!r}: {error}") from None
        for field in given:
            value = getattr(traits, field)
            if value is not None and not value > 0:
                raise ModuleInvalid(f"module {module.name!r}: `{field}` is {value!r}; it must be positive")
        return traits
