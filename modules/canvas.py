"""Images made to fit a network's input: scaled, in the corner of a canvas."""

from typing import TYPE_CHECKING, Union

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

if TYPE_CHECKING:
    from torch import Tensor

GREY = 127
"""What fills a canvas beside the image."""
REDUCING_GAP = 2.0
"""Large images are first averaged over whole pixels, down to this many times the size they are made for."""


class Fitted(msgspec.Struct, frozen=True):
    """A canvas with an image in its upper left corner."""

    canvas: Union[NDArray[np.uint8], "Tensor"]
    """Bytes (height, width, 3), RGB: an array, or a tensor on the device."""
    width_px: int
    height_px: int
    """The part of the canvas that is the image."""
    scale_x: float
    scale_y: float
    """Pixels of the original image per pixel of the canvas."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The canvas's: what may share a batch."""
        return tuple(self.canvas.shape)

    @property
    def nbytes(self) -> int:
        """The canvas's: what the image takes in memory."""
        return int(self.canvas.nbytes)


def fit_within(image: Image, side_px: int, multiple_px: int = 1, *, enlarge: bool = False) -> Fitted:
    """Scales an RGB image down to fit a square of `side_px`, on a canvas of whole multiples of `multiple_px`.

    A 4:3 image fitted within 320 at multiples of 32 makes a canvas of 320x256, not of 320x320.

    Args:
        image: of any size.
        side_px: what its longer side becomes.
        multiple_px: what the canvas's sides are multiples of.
        enlarge: scale smaller images up; otherwise they stay as they are.
    """
    width, height = fitted_size(image.size, side_px, enlarge=enlarge)
    columns, rows = canvas_size((width, height), multiple_px)
    if image.size != (width, height):
        small = image.resize((width, height), Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    else:
        small = image
    canvas = np.empty((rows, columns, 3), np.uint8)
    canvas[:height, :width] = np.asarray(small)
    canvas[height:] = GREY
    canvas[:height, width:] = GREY
    return Fitted(canvas, width, height, image.width / width, image.height / height)


def fitted_size(size: tuple[int, int], side_px: int, *, enlarge: bool) -> tuple[int, int]:
    """Width and height of an image of `size` once its longer side is `side_px`; see `fit_within`."""
    scale = side_px / max(size)
    if scale > 1 and not enlarge:
        return size
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def canvas_size(size: tuple[int, int], multiple_px: int) -> tuple[int, int]:
    """Width and height of the smallest canvas of whole multiples that holds an image of `size`."""
    return -(-size[0] // multiple_px) * multiple_px, -(-size[1] // multiple_px) * multiple_px
