"""The contract's example: no model, and answers that anyone can predict from the pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from modules.contract import Box, Detection, Label

TOLERANCE = 32
"""How far one channel must be from the background's for a pixel to stand out; JPEG noise is closer."""

COLOURS = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "orange": (255, 140, 0),
    "brown": (140, 80, 30),
}


class Dummy:
    """Finds the one thing that stands out: all pixels unlike the border's median colour.

    The label is the nearest colour name of their mean, its score the share of the box that they fill.
    """

    name = "dummy"
    version = "1.0"
    max_batch = 32

    def load(self, device: str) -> None:
        """There is no model."""

    def preprocess(self, image: Image) -> tuple[Detection, ...]:
        """Does all the work: image threads run side by side, and what is left for a batch is small."""
        return _stand_out(np.asarray(image))

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        """Hands the answers on."""
        return list(batch)


def _stand_out(pixels: NDArray[np.uint8]) -> tuple[Detection, ...]:
    different = _unlike(pixels, _border_colour(pixels))
    rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
    if not rows.size:
        return ()
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    filled = float(different[top:bottom, left:right].mean())
    label = Label(_colour_name(pixels[different].mean(axis=0)), filled)
    return (Detection(Box(left, top, right - left, bottom - top), (label,)),)


def _unlike(pixels: NDArray[np.uint8], colour: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which pixels differ; compared channel by channel in bytes, several times faster than by distance."""
    low = (colour - TOLERANCE).clip(0, 255).astype(np.uint8)
    high = (colour + TOLERANCE).clip(0, 255).astype(np.uint8)
    different = np.zeros(pixels.shape[:2], np.bool_)
    for channel in range(3):
        values = pixels[:, :, channel]
        different |= (values < low[channel]) | (values > high[channel])
    return different


def _border_colour(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    median: NDArray[np.int16] = np.median(border, axis=0).astype(np.int16)
    return median


def _colour_name(colour: NDArray[np.float64]) -> str:
    return min(COLOURS, key=lambda name: float(((colour - COLOURS[name]) ** 2).sum()))
