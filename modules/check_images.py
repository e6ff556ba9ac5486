"""The images that the conformance check shows to a module, as the worker would hand them over."""

from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

MOST_FILES = 50
MOST_SIDE_PX = 2000
"""Larger files are scaled down to this: what is tried with many images is not their size."""

SHAPES = (
    ("red", (20, 30, 120, 110)),
    ("blue", (150, 60, 300, 200)),
    ("black", (5, 100, 60, 230)),
    ("yellow", (200, 10, 310, 50)),
    ("green", (90, 90, 230, 180)),
)


class SampleImage(msgspec.Struct, frozen=True):
    """An upright RGB image and what to call it in a finding."""

    name: str
    image: Image.Image

    @property
    def is_small(self) -> bool:
        """At most a megapixel: one that may be shown many times."""
        return self.image.width * self.image.height <= 2**20


def generated_images() -> list[SampleImage]:
    """Different shapes on plain ground, noise, and sizes that authors tend to forget; always the same."""
    images = [_shape(colour, box) for colour, box in SHAPES]
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    images.append(SampleImage("noise", Image.fromarray(noise)))
    for name, size in (
        ("1x1", (1, 1)),
        ("very tall", (3, 700)),
        ("very wide", (2000, 9)),
        ("large", (3000, 2000)),
    ):
        image = Image.new("RGB", size, "white")
        width, height = size
        ImageDraw.Draw(image).ellipse(
            (width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill="magenta"
        )
        images.append(SampleImage(name, image))
    return images


def images_in(folder: Path) -> list[SampleImage]:
    """The first images of a folder and of those below it, by name; other files are passed over."""
    found: list[SampleImage] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if len(found) == MOST_FILES:
            break
        try:
            with Image.open(path) as image:
                image.draft("RGB", (MOST_SIDE_PX, MOST_SIDE_PX))
                found.append(SampleImage(str(path.relative_to(folder)), _upright_rgb(image)))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            continue
    return found


def _shape(colour: str, box: tuple[int, int, int, int]) -> SampleImage:
    image = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return SampleImage(f"{colour} rectangle", image)


def _upright_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    upright.thumbnail((MOST_SIDE_PX, MOST_SIDE_PX))
    if upright.has_transparency_data:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
    return upright.convert("RGB")
