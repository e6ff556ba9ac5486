"""The contract's example: no model, and answers that anyone can predict from the pixels."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageChops, ImageStat
from PIL.Image import Image
from PIL.Image import new as new_image

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
    version = "1.1"
    max_batch = 32
    decode_size_px = 120

    def load(self, device: str) -> None:
        """There is no model."""

    def preprocess(self, image: Image) -> tuple[Detection, ...]:
        """Does all the work: image threads run side by side, and what is left for a batch is small."""
        return _stand_out(image)

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        """Hands the answers on."""
        return list(batch)


def _stand_out(image: Image) -> tuple[Detection, ...]:
    # Pillow's own operations, each one pass over bytes: NumPy takes four times as long for the same.
    different = _unlike(image, _border_colour(np.asarray(image)))
    corners = different.getbbox()
    if corners is None:
        return ()
    left, top, right, bottom = corners
    inside = different.crop(corners)
    filled = inside.histogram()[255] / (inside.width * inside.height)
    label = Label(_colour_name(ImageStat.Stat(image.crop(corners), inside).mean), filled)
    return (Detection(Box(left, top, right - left, bottom - top), (label,)),)


def _unlike(image: Image, colour: tuple[int, ...]) -> Image:
    """A mask, 255 where a channel is further than TOLERANCE from the colour's."""
    red, green, blue = ImageChops.difference(image, new_image("RGB", image.size, colour)).split()
    furthest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return furthest.point([255 * (distance > TOLERANCE) for distance in range(256)])


def _border_colour(pixels: NDArray[np.uint8]) -> tuple[int, ...]:
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    return tuple(int(channel) for channel in np.median(border, axis=0))


def _colour_name(mean: Sequence[float]) -> str:
    return min(COLOURS, key=lambda name: math.dist(mean, COLOURS[name]))
