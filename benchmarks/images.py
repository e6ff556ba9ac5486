"""The images of every benchmark: photographs' content and noise, the same for every contender and machine.

Scenes are cut from the photographs that scikit-image carries, laid over one another, and get the grain
of a sensor: an image of smooth gradients would decode in half the time of a photograph, one of noise
would take twice as long. Some flat shapes are drawn on top, so that a shape detector has something to find.
"""

import io
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = (1280, 960)
QUALITY = 85
DISTINCT = 48
GRAIN = 1.5
"""Standard deviation of the sensor's noise, in 8-bit levels."""
TEXTURE = 0.12
"""Share of the texture that is laid over the scene; enlarged scenes have little fine detail of their own."""

_SCENES = ("astronaut", "chelsea", "coffee", "motorcycle_left", "motorcycle_right", "rocket")
_TEXTURES = ("brick", "grass", "gravel")
_LONGEST_CROP = 0.95
_SHORTEST_CROP = 0.55
_COLOURS = ((220, 40, 40), (40, 90, 220), (40, 170, 70), (240, 200, 40), (250, 250, 250), (30, 30, 30))


def jpeg(number: int) -> bytes:
    """The n-th image as a file; the same in every run."""
    buffer = io.BytesIO()
    draw(number).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def draw(number: int) -> Image.Image:
    """The n-th image."""
    random = np.random.default_rng(number)
    scene = _cut(_photograph(_SCENES[number % len(_SCENES)]), random)
    texture = _cut(_photograph(_TEXTURES[number % len(_TEXTURES)]), random)
    pixels = np.asarray(Image.blend(scene, texture, TEXTURE), dtype=np.float32)
    grain = GRAIN * random.standard_normal((SIZE[1], SIZE[0], 1), dtype=np.float32)
    image = Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))
    _draw_shapes(image, random)
    return image


@cache
def _photograph(name: str) -> Image.Image:
    from skimage.data import data_dir
    from skimage.io import imread

    pixels: NDArray[np.uint8] = imread(f"{data_dir}/{name}.{'jpg' if name == 'rocket' else 'png'}")
    return Image.fromarray(pixels).convert("RGB")


def _cut(photograph: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of the benchmark's proportions, somewhere and of some size, enlarged to `SIZE`."""
    most = min(photograph.width / SIZE[0], photograph.height / SIZE[1])
    scale = most * random.uniform(_SHORTEST_CROP, _LONGEST_CROP)
    width, height = SIZE[0] * scale, SIZE[1] * scale
    left = random.uniform(0, photograph.width - width)
    top = random.uniform(0, photograph.height - height)
    box = (left, top, left + width, top + height)
    return photograph.resize(SIZE, Image.Resampling.BICUBIC, box=box)


def _draw_shapes(image: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(2, 6)):
        radius = float(random.uniform(30, 160))
        x, y = (float(random.uniform(radius, side - radius)) for side in SIZE)
        corners = int(random.integers(3, 5))
        colour = _COLOURS[random.integers(len(_COLOURS))]
        if random.random() < 0.4:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            draw.polygon(_corners(x, y, radius, corners, float(random.uniform(0, math.tau))), fill=colour)


def _corners(x: float, y: float, radius: float, count: int, turn: float) -> list[tuple[float, float]]:
    angles = (turn + math.tau * corner / count for corner in range(count))
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
