"""The demo's images: photographs that scikit-image ships in its wheel, a drawing, and a broken file."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from producers.errors import InvalidArgument

_QUALITY = 92
_PORTRAITS = 12
"""Taken from scikit-image's excerpt of Labeled Faces in the Wild, of which the first 100 are faces."""
_COLUMNS = 4
_ENLARGED_PX = 150
_TURNED_LEFT = 8
_ORIENTATION = 0x0112


class Sample(msgspec.Struct, frozen=True):
    """One image file and what it is meant to show."""

    path: Path
    about: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def make_samples(folder: Path) -> list[Sample]:
    """Writes the demo's images into a folder; nothing is downloaded.

    Raises:
        InvalidArgument: scikit-image is not installed.
    """
    photographs = _photographs()
    folder.mkdir(parents=True, exist_ok=True)
    writers: list[tuple[str, str, Callable[[Path], None]]] = [
        ("astronaut.jpg", "a face", lambda path: _jpeg(photographs / "astronaut.png", path)),
        ("photographer.png", "a face in profile, grey", lambda path: _copy(photographs / "camera.png", path)),
        ("portraits.jpg", "many faces", lambda path: _portraits(photographs / "lfw_subset.npy", path)),
        ("turned.jpg", "stored on its side", lambda path: _turned(photographs / "astronaut.png", path)),
        ("cat.jpg", "no human face", lambda path: _jpeg(photographs / "chelsea.png", path)),
        ("coffee.jpg", "no face", lambda path: _jpeg(photographs / "coffee.png", path)),
        ("rocket.jpg", "no face", lambda path: _copy(photographs / "rocket.jpg", path)),
        ("shapes.png", "a drawing", _drawing),
        ("broken.jpg", "cut off in the middle", lambda path: _broken(photographs / "astronaut.png", path)),
    ]
    for name, _, write in writers:
        write(folder / name)
    return [Sample(folder / name, about) for name, about, _ in writers]


def _photographs() -> Path:
    # Only the package's folder is wanted: importing scikit-image takes a second.
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise InvalidArgument(
            "the demo's photographs come with scikit-image: pip install -r requirements-dev.txt"
        )
    return Path(package.submodule_search_locations[0]) / "data"


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _jpeg(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.convert("RGB").save(target, quality=_QUALITY)


def _portraits(source: Path, target: Path) -> None:
    portraits = np.load(source)[:_PORTRAITS]
    rows = math.ceil(_PORTRAITS / _COLUMNS)
    sheet = Image.new("L", (_COLUMNS * _ENLARGED_PX, rows * _ENLARGED_PX))
    for number, grey in enumerate(portraits):
        portrait = Image.fromarray((grey * 255).astype(np.uint8))
        row, column = divmod(number, _COLUMNS)
        large = portrait.resize((_ENLARGED_PX, _ENLARGED_PX), Image.Resampling.LANCZOS)
        sheet.paste(large, (column * _ENLARGED_PX, row * _ENLARGED_PX))
    sheet.save(target, quality=_QUALITY)


def _turned(source: Path, target: Path) -> None:
    """A camera held upright stores rows as its sensor reads them, and says in EXIF how to turn them."""
    with Image.open(source) as image:
        exif = image.getexif()
        exif[_ORIENTATION] = _TURNED_LEFT
        stored = image.convert("RGB").transpose(Image.Transpose.ROTATE_270)
        stored.save(target, quality=_QUALITY, exif=exif)


def _drawing(target: Path) -> None:
    image = Image.new("RGB", (640, 480), (235, 235, 228))
    draw = ImageDraw.Draw(image)
    draw.ellipse((60, 70, 240, 250), fill=(196, 64, 54))
    draw.rectangle((330, 60, 560, 220), fill=(47, 111, 167))
    draw.polygon([(170, 420), (310, 420), (240, 290)], fill=(58, 138, 82))
    draw.regular_polygon((470, 350, 90), 5, fill=(212, 160, 42))
    image.save(target)


def _broken(source: Path, target: Path) -> None:
    _jpeg(source, target)
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
