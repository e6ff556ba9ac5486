"""Draws scenes with known circles, squares, triangles and stars: what is trained on and measured with."""

import io
import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from modules.shapes.backgrounds import LINE_SCALE, colour_run, draw_background, random_colour
from modules.shapes.kinds import KINDS

SMALLEST, LARGEST = 0.02, 0.6
"""Size of a shape: the longer side of its box as a share of the image's longer side. Any is as likely, but
where there is no place left for a large one, the scene goes without it."""
MOST_SHAPES = 9
LEAST_VISIBLE = 0.5
"""Of each shape at least this share of its area is inside the image and not covered by others."""
LEAST_CONTRAST = 70.0
"""Distance in RGB between a shape's colour and the mean of what it is drawn on."""
TRIES = 20
"""Places tried for a shape before the scene goes without it."""

Points = NDArray[np.float64]


class Target(msgspec.Struct, frozen=True):
    """A shape that was drawn: its kind and the box around its outline, clipped to the image, in pixels."""

    kind: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom


class Scene(msgspec.Struct, frozen=True):
    """An RGB image and the shapes in it."""

    image: Image.Image
    targets: tuple[Target, ...]


def draw_scene(seed: Sequence[int], size: tuple[int, int], *, more_small: bool = False) -> Scene:
    """Draws the scene of a seed: the same pixels each time with the same versions of Pillow and NumPy.

    Args:
        seed: any numbers, such as that of a set and the index in it.
        size: width and height in pixels.
        more_small: draw the square roots of the shapes' sizes evenly, not the sizes themselves.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas(draw_background(rng, size))
    power = 2.0 if more_small else 1.0
    count = rng.integers(1, MOST_SHAPES + 1)
    sides = rng.uniform(SMALLEST ** (1 / power), LARGEST ** (1 / power), count) ** power
    # Large ones mostly first, or the small ones would be covered and the sizes drawn would not be those seen.
    order = np.argsort(-np.log(sides) - rng.normal(0, 0.5, count))
    for side in sides[order]:
        canvas.add(rng, str(rng.choice(KINDS)), float(side) * max(size))
    return Scene(_photographed(rng, canvas.image), canvas.targets())


class _Canvas:
    """An image with shapes on it that knows how much of each can still be seen."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._owner = np.full((image.height, image.width), -1, np.int8)
        """Which shape each pixel shows; -1: the background."""
        self._drawn: list[tuple[str, Points]] = []
        self._areas: list[int] = []
        self._visible: list[int] = []

    def add(self, rng: np.random.Generator, kind: str, side_px: float) -> None:
        """Draws a shape at a place where it and all others stay visible enough; or not at all."""
        points = _outline(rng, kind) * side_px
        for _ in range(TRIES):
            middle = rng.uniform((0, 0), self.image.size)
            placed = points + middle
            if self._claim(kind, placed):
                self._paint(rng, placed)
                return

    def targets(self) -> tuple[Target, ...]:
        """The boxes of all that was drawn."""
        limit = (self.image.width, self.image.height)
        boxes = [(kind, *np.clip((points.min(0), points.max(0)), 0, limit)) for kind, points in self._drawn]
        return tuple(Target(kind, *(float(value) for value in (*low, *high))) for kind, low, high in boxes)

    def _claim(self, kind: str, points: Points) -> bool:
        (left, top), mask = _mask(points)
        inside = np.asarray(mask) > 127
        area = int(inside.sum())
        rows = slice(max(0, top), max(0, top + inside.shape[0]))
        columns = slice(max(0, left), max(0, left + inside.shape[1]))
        owner = self._owner[rows, columns]
        seen = inside[max(0, -top) :, max(0, -left) :][: owner.shape[0], : owner.shape[1]]
        covered = np.bincount(owner[seen] + 1, minlength=len(self._drawn) + 1)[1:]
        left_over = np.asarray(self._visible, int) - covered
        if seen.sum() < LEAST_VISIBLE * area or (left_over < LEAST_VISIBLE * np.asarray(self._areas)).any():
            return False
        owner[seen] = len(self._drawn)
        self._drawn.append((kind, points))
        self._areas.append(area)
        self._visible = [*left_over.tolist(), int(seen.sum())]
        return True

    def _paint(self, rng: np.random.Generator, points: Points) -> None:
        corner, mask = _mask(points)
        box = (*corner, corner[0] + mask.width, corner[1] + mask.height)
        behind = np.asarray(
            self.image.crop(_clipped(box, self.image.size)).resize((1, 1), Image.Resampling.BOX)
        )
        paint = _paint_of(rng, mask.size, behind[0, 0].astype(float))
        self.image.paste(paint, corner, mask)
        if rng.random() < 0.25:
            width = max(1, round(rng.uniform(1, 4) * max(self.image.size) / LINE_SCALE))
            ring = [tuple(point) for point in (*points, points[0])]
            ImageDraw.Draw(self.image).line(ring, random_colour(rng), width, joint="curve")


def _outline(rng: np.random.Generator, kind: str) -> Points:
    """A shape's corners around (0, 0), turned by any angle; the longer side of their box is 1."""
    radii, angles = _POLYGONS[kind](rng)
    turned = angles + rng.uniform(0, 2 * math.pi)
    points = np.stack((np.cos(turned), np.sin(turned)), 1) * radii[:, None]
    if kind != "square":  # a square made uneven is still one to nobody
        points[:, 0] *= rng.uniform(0.85, 1.0)
    return np.asarray(points / np.ptp(points, 0).max(), np.float64)


def _circle(rng: np.random.Generator) -> tuple[Points, Points]:
    return np.ones(72), np.linspace(0, 2 * math.pi, 72, endpoint=False)


def _square(rng: np.random.Generator) -> tuple[Points, Points]:
    return np.ones(4), np.linspace(0, 2 * math.pi, 4, endpoint=False)


def _triangle(rng: np.random.Generator) -> tuple[Points, Points]:
    return np.ones(3), np.arange(3) * (2 * math.pi / 3) + rng.uniform(-0.25, 0.25, 3)


def _star(rng: np.random.Generator) -> tuple[Points, Points]:
    tips = int(rng.choice([5, 5, 5, 6]))
    radii = np.asarray((1.0, rng.uniform(0.36, 0.5)) * tips)
    return radii, np.linspace(0, 2 * math.pi, 2 * tips, endpoint=False)


_POLYGONS: dict[str, Callable[[np.random.Generator], tuple[Points, Points]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
}


def _mask(points: Points) -> tuple[tuple[int, int], Image.Image]:
    """The upper left corner of a polygon's patch, and the patch: 255 inside, drawn at twice the size."""
    corner = np.floor(points.min(0)).astype(int) - 1
    width, height = np.ceil(points.max(0)).astype(int) + 2 - corner
    mask = Image.new("L", (2 * int(width), 2 * int(height)))
    # Pillow's coordinates are those of pixel centres.
    ring = [(float(x), float(y)) for x, y in (points - corner) * 2 - 0.5]
    ImageDraw.Draw(mask).polygon(ring, fill=255)
    return (int(corner[0]), int(corner[1])), mask.reduce(2)


def _paint_of(rng: np.random.Generator, size: tuple[int, int], behind: Points) -> Image.Image:
    """A colour that stands out of what is behind, plain, or running into others, or grained."""
    paint = Image.new("RGB", size, _standing_out(rng, behind))
    style = rng.random()
    if style < 0.25:
        paint = Image.blend(paint, colour_run(rng, size), rng.uniform(0.1, 0.35))
    elif style < 0.45:
        cells = max(2, size[0] // 8), max(2, size[1] // 8)
        grain = Image.fromarray(rng.integers(0, 256, (*cells, 3), np.uint8)).resize(size)
        paint = Image.blend(paint, grain, rng.uniform(0.05, 0.3))
    return paint


def _standing_out(rng: np.random.Generator, behind: Points) -> tuple[int, int, int]:
    while True:
        colour = random_colour(rng)
        if float(np.linalg.norm(behind - colour)) >= LEAST_CONTRAST:
            return colour


def _clipped(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    left, top = min(max(0, left), size[0] - 1), min(max(0, top), size[1] - 1)
    return left, top, max(left + 1, min(right, size[0])), max(top + 1, min(bottom, size[1]))


def _photographed(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """What a camera adds: blur, noise, a colour cast, exposure, and the artefacts of JPEG."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 1.5) * max(image.size) / LINE_SCALE))
    image = image.point(_tones(rng))
    if rng.random() < 0.7:
        image = _noisy(rng, image)
    if rng.random() < 0.7:
        image = jpeg(image, int(rng.integers(40, 96)))
    return image


def _tones(rng: np.random.Generator) -> list[int]:
    """A table for each channel: gain, and the curve's bend."""
    levels = np.arange(256) / 255
    gains, bend = rng.uniform(0.75, 1.15, 3), rng.uniform(0.7, 1.4)
    curves = (gains[:, None] * levels**bend * 255).clip(0, 255)
    return [int(value) for value in curves.reshape(-1)]


def _noisy(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    # A tile of noise over and over costs a tenth of noise for every pixel, and is no more easily learnt.
    tile = rng.normal(0, rng.uniform(2, 16), (150, 170, 3)).astype(np.int16)
    repeats = math.ceil(image.height / tile.shape[0]), math.ceil(image.width / tile.shape[1]), 1
    noisy = np.tile(tile, repeats)[: image.height, : image.width]
    noisy += np.asarray(image)
    return Image.fromarray(noisy.clip(0, 255, out=noisy).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image as it comes back out of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
