"""Images made to fit a network's input: scaled down, never up, in the corner of a canvas."""

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

GREY = 127
"""What fills a canvas beside the image."""
REDUCING_GAP = 2.0
"""Large images are first averaged over whole pixels, down to this many times the size they are made for."""


class Fitted(msgspec.Struct, frozen=True):
    """A canvas (height, width, 3; RGB) with an image in its upper left corner."""

    canvas: NDArray[np.uint8]
    width_px: int
    height_px: int
    """The part of the canvas that is the image."""
    scale_x: float
    scale_y: float
    """Pixels of the original image per pixel of the canvas."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The canvas's: what may share a batch."""
        return self.canvas.shape

    @property
    def nbytes(self) -> int:
        """The canvas's: what the image takes in memory."""
        return self.canvas.nbytes


def fit_within(image: Image, side_px: int, multiple_px: int = 1) -> Fitted:
    """Scales an RGB image down to fit a square of `side_px`, on a canvas of whole multiples of `multiple_px`.

    A 4:3 image fitted within 320 at multiples of 32 makes a canvas of 320x256, not of 320x320.
    """
    shrink = min(1.0, side_px / max(image.size))
    width, height = (max(1, round(side * shrink)) for side in image.size)
    canvas = np.empty((_round_up(height, multiple_px), _round_up(width, multiple_px), 3), np.uint8)
    if image.size != (width, height):
        small = image.resize((width, height), Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    else:
        small = image
    canvas[:height, :width] = np.asarray(small)
    canvas[height:] = GREY
    canvas[:height, width:] = GREY
    return Fitted(canvas, width, height, image.width / width, image.height / height)


def _round_up(side_px: int, multiple_px: int) -> int:
    return -(-side_px // multiple_px) * multiple_px
