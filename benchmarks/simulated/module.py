"""A simulated device: a module that waits as long as an accelerator would take, and no model.

It shows, on a machine without a GPU, the regime of a machine with one: a batch costs little more than one
image, and the CPU is free meanwhile. Its figures say how well a service feeds a device, and nothing about
any real device.
"""

import threading
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from modules.contract import Box, Detection, Label

INPUT_PX = 64
"""Side of the square that the simulated model takes."""

SLOWER = 10
"""Times slower than the device that the curve is modelled on, so that two cores can keep two of them fed."""

BATCH_S = 0.006 * SLOWER
"""What a batch takes whatever its size: launches, transfers, layers that leave most of a device idle."""

IMAGE_S = 0.0004 * SLOWER
"""What each image of a batch adds."""


def batch_s(images: int) -> float:
    """Seconds that the device is busy with a batch."""
    return BATCH_S + IMAGE_S * images


def rate(batch: int) -> float:
    """Images a second of one device at most, in batches of `batch` images: what efficiency is measured by."""
    return batch / batch_s(batch)


class Prepared(msgspec.Struct, frozen=True):
    """The model's input and what its boxes must be scaled by."""

    pixels: NDArray[np.uint8]
    scale_x: float
    scale_y: float


class Handle(msgspec.Struct, frozen=True):
    """A batch that the device works on until `ready_at` (of `time.monotonic`)."""

    ready_at: float
    batch: Sequence[Prepared]


class Simulated:
    """Finds the pixels brighter than the image's mean: one box, and how much of the image it fills.

    Each instance is a device of its own and works on one batch at a time, in the order of submission.
    """

    name = "simulated"
    version = "1.0"
    max_batch = 16
    decode_size_px = INPUT_PX

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    def load(self, device: str) -> None:
        """There is no model."""

    def preprocess(self, image: Image) -> Prepared:
        """Shrinks the image to the model's input, brightness only."""
        small = image.resize((INPUT_PX, INPUT_PX), reducing_gap=2.0).convert("L")
        return Prepared(np.asarray(small), image.width / INPUT_PX, image.height / INPUT_PX)

    def infer(self, batch: Sequence[Prepared]) -> list[tuple[Detection, ...]]:
        """Answers a batch after the time that a device would take."""
        return self.collect(self.submit(batch))

    def submit(self, batch: Sequence[Prepared]) -> Handle:
        """Gives the device a batch; it begins when the one before is done."""
        with self._lock:
            self._free_at = max(time.monotonic(), self._free_at) + (batch_s(len(batch)) if batch else 0.0)
            return Handle(self._free_at, batch)

    def collect(self, handle: Handle) -> list[tuple[Detection, ...]]:
        """Waits for the device."""
        time.sleep(max(0.0, handle.ready_at - time.monotonic()))
        return [_bright(prepared) for prepared in handle.batch]


def _bright(prepared: Prepared) -> tuple[Detection, ...]:
    above = prepared.pixels > prepared.pixels.mean()
    columns, rows = np.flatnonzero(above.any(axis=0)), np.flatnonzero(above.any(axis=1))
    if not len(columns):
        return ()
    left, top = int(columns[0]), int(rows[0])
    width, height = int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
    box = Box(
        left * prepared.scale_x, top * prepared.scale_y, width * prepared.scale_x, height * prepared.scale_y
    )
    return (Detection(box, (Label("bright", float(above.mean())),)),)
