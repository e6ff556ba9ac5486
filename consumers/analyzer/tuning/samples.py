"""The images that are measured with: a folder's, or generated ones that weigh as photographs do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageChops

from consumers.analyzer.tuning.figures import Skipped
from schemas.errors import AnalysisError, ErrorCode

T = TypeVar("T")

MOST_FILES = 200
MOST_BYTES = 128 * 2**20
"""Every worker holds the files in memory, so that no disk is measured."""
GENERATED = 8
GENERATED_PX = (1280, 960)
_QUALITY = 90
_OCTAVES = ((160, 60), (32, 30), (8, 16), (2, 8), (1, 2))
"""How many pixels lie between two random values, and how far those spread."""


def image_files(folder: Path) -> list[Path]:
    """Files of a folder and of those below it, spread over their names' order where there are too many.

    Raises:
        AnalysisError: there is no such folder, or no file in it.
    """
    if not folder.is_dir():
        raise AnalysisError(ErrorCode.INPUT_NOT_FOUND, f"--images: {folder} is no folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise AnalysisError(ErrorCode.INPUT_NOT_FOUND, f"--images: {folder} holds no file")
    return _within(MOST_BYTES, files[:: -(-len(files) // MOST_FILES)])


def generate(folder: Path, count: int = GENERATED) -> list[Path]:
    """Writes JPEGs with the detail and the grain of photographs, always the same."""
    random = np.random.default_rng(1)
    paths = []
    for number in range(count):
        paths.append(folder / f"generated-{number:02}.jpg")
        _photograph(random).save(paths[-1], quality=_QUALITY)
    return paths


def read_samples(
    files: Sequence[Path], largest_bytes: int, show: Callable[[str, bytes], T]
) -> tuple[dict[str, tuple[bytes, T]], list[Skipped]]:
    """Shows each file to the module; those that cannot be read, decoded or prepared are left out.

    Args:
        show: is given a file's name and bytes, and raises AnalysisError where it is of no use.

    Returns:
        By name, the bytes and what `show` made of them; and what was left out.

    Raises:
        AnalysisError: none is left.
    """
    samples, skipped = {}, []
    for path in files:
        name = str(path)
        try:
            raw = _read(path, largest_bytes)
            samples[name] = raw, show(name, raw)
        except (AnalysisError, OSError) as error:
            skipped.append(Skipped(name, str(error)))
    if not samples:
        raise AnalysisError(
            ErrorCode.INPUT_NOT_FOUND,
            f"none of the {len(files)} files can be measured with; {skipped[0].file}: {skipped[0].reason}",
        )
    return samples, skipped


def _read(path: Path, largest_bytes: int) -> bytes:
    size = path.stat().st_size
    if size > largest_bytes:
        raise AnalysisError(
            ErrorCode.OBJECT_TOO_LARGE,
            f"it has {size} bytes; the limit is {largest_bytes} (ANALYZER_MAX_IMAGE_BYTES)",
        )
    return path.read_bytes()


def _within(limit_bytes: int, files: Sequence[Path]) -> list[Path]:
    kept: list[Path] = []
    total = 0
    for path in files:
        total += path.stat().st_size
        if kept and total > limit_bytes:
            break
        kept.append(path)
    return kept


def _photograph(random: np.random.Generator) -> Image.Image:
    """Noise whose detail falls off as it becomes finer, as a photograph's does; the finest is grey grain."""
    image = Image.new("RGB", GENERATED_PX, (128, 128, 128))
    for step_px, strength in _OCTAVES:
        size = (GENERATED_PX[0] // step_px, GENERATED_PX[1] // step_px)
        noise = random.normal(128, strength, (size[1], size[0], 3 if step_px > 1 else 1))
        octave = Image.fromarray(noise.clip(0, 255).astype(np.uint8).squeeze()).convert("RGB")
        octave = octave.resize(GENERATED_PX, Image.Resampling.BICUBIC)
        image = ImageChops.add(image, octave, offset=-128)
    return image
