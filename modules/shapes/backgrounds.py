"""Backgrounds somewhat like photographs: colour runs, clouds of noise, regions, textures, clutter."""

import math

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

LINE_SCALE = 640
"""Widths of lines and grains of textures are in pixels of an image of this longer side."""
FINEST_CELLS = 160
"""Cells of the finest noise octave along the longer side; the camera's own noise is added afterwards."""


def draw_background(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """An RGB image of `size` (width, height) without any shape in it."""
    image = _clouds(rng, size)
    for _ in range(rng.integers(0, 4)):
        other = _clouds(rng, size) if rng.random() < 0.5 else _texture(rng, size)
        image.paste(other, (0, 0), _region(rng, size))
    _draw_clutter(rng, image)
    return image


def random_colour(rng: np.random.Generator) -> Colour:
    """Any colour, each as likely."""
    red, green, blue = (int(channel) for channel in rng.integers(0, 256, 3))
    return red, green, blue


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A colour run with noise on it, each finer and fainter than the one before."""
    amplitude = rng.uniform(0, 45) if rng.random() < 0.8 else 0.0
    fading = rng.uniform(0.5, 1.0)
    channels = 1 if rng.random() < 0.5 else 3
    image = colour_run(rng, _cells(size, 5))
    cells = 10
    while amplitude > 2 and cells <= FINEST_CELLS:
        width, height = _cells(size, cells)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        noise = rng.normal(0, amplitude, (height, width, channels))
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
        amplitude, cells = amplitude * fading, cells * 2
    return image.resize(size, Image.Resampling.BICUBIC)


def colour_run(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """One colour that runs into others towards the corners."""
    colour = np.asarray(random_colour(rng))
    corners = colour + rng.normal(0, rng.uniform(0, 60), (2, 2, 3))
    return Image.fromarray(corners.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A small random pattern, repeated: stripes, checks, grains."""
    unit = max(size) / LINE_SCALE
    high, wide = (int(cells) for cells in rng.choice([1, 2, 4, 8], 2))
    pattern = np.asarray(random_colour(rng)) + rng.normal(0, rng.uniform(5, 50), (high, wide, 3))
    grain = max(1, round(rng.uniform(1, 10) * unit))
    tile = pattern.clip(0, 255).astype(np.uint8).repeat(grain, 0).repeat(grain, 1)
    repeats = math.ceil(size[1] / tile.shape[0]), math.ceil(size[0] / tile.shape[1]), 1
    return Image.fromarray(np.tile(tile, repeats)[: size[1], : size[0]])


def _region(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A mask of an irregular outline over about a third of the image, with a more or less soft edge."""
    steepness = rng.uniform(2, 40)
    width, height = _cells(size, int(rng.integers(3, 9)))
    hills = Image.fromarray(rng.integers(0, 256, (height, width), np.uint8))
    middle = rng.uniform(110, 190)
    levels = [int(min(255, max(0, 128 + (level - middle) * steepness))) for level in range(256)]
    return hills.resize(size, Image.Resampling.BICUBIC).point(levels)


def _draw_clutter(rng: np.random.Generator, image: Image.Image) -> None:
    """Lines, arcs and thin bars: edges that belong to no shape."""
    draw = ImageDraw.Draw(image)
    unit = max(image.size) / LINE_SCALE
    for _ in range(rng.integers(0, 14)):
        colour, width = random_colour(rng), max(1, round(rng.uniform(1, 7) * unit))
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        length, angle = rng.uniform(20, 500) * unit, rng.uniform(0, 2 * math.pi)
        if rng.random() < 0.6:
            draw.line((x, y, x + length * math.cos(angle), y + length * math.sin(angle)), colour, width)
        else:
            start = math.degrees(angle)
            stop = start + rng.uniform(20, 140)
            draw.arc(
                (x - length / 2, y - length / 2, x + length / 2, y + length / 2), start, stop, colour, width
            )


def _cells(size: tuple[int, int], longer: int) -> tuple[int, int]:
    """A coarse grid of the image's proportions."""
    share = longer / max(size)
    return max(2, round(size[0] * share)), max(2, round(size[1] * share))
