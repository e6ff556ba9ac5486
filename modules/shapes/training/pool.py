"""A pool of prepared training images on disk, drawn once by several processes and then read at random."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from modules.canvas import fit_within
from modules.shapes.drawing import MOST_SHAPES, draw_scene
from modules.shapes.kinds import KINDS
from modules.shapes.module import SIDE_PX, STEP_PX
from modules.shapes.side_by_side import side_by_side

DRAWN_SIZES = ((640, 480), (640, 480), (640, 427), (640, 512), (640, 360))
"""Scenes are drawn at twice the size that the network sees; upright ones come from turning a batch."""
CANVAS = (256, SIDE_PX, 3)
"""Height, width and channels of every image of the pool, grey below where its scene is lower."""
NO_KIND = -1

Boxes = NDArray[np.float32]


class Pool(msgspec.Struct, frozen=True):
    """Images (n, height, width, 3), and for each up to `MOST_SHAPES` boxes with their kinds."""

    images: NDArray[np.uint8]
    boxes: Boxes
    """(n, MOST_SHAPES, 4): left, top, right, bottom in pixels of the canvas."""
    kinds: NDArray[np.int64]
    """(n, MOST_SHAPES): an index in KINDS, or NO_KIND where there is no further shape."""


def draw_pool(folder: Path, count: int, seed: int, processes: int) -> Pool:
    """Draws `count` scenes into `folder`, or opens what the same call has drawn before."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"pool-{seed}-{count}"
    images_file, targets_file = folder / f"{stem}.images", folder / f"{stem}.npz"
    if not targets_file.exists():
        seeds = ((seed, index) for index in range(count))
        images = np.memmap(images_file, np.uint8, "w+", shape=(count, *CANVAS))
        boxes = np.zeros((count, MOST_SHAPES, 4), np.float32)
        kinds = np.full((count, MOST_SHAPES), NO_KIND, np.int64)
        for index, drawn in enumerate(side_by_side(_draw, seeds, processes)):
            images[index], boxes[index], kinds[index] = drawn
        images.flush()
        np.savez(targets_file, boxes=boxes, kinds=kinds)
    with np.load(targets_file) as targets:
        pixels = np.memmap(images_file, np.uint8, "r", shape=(count, *CANVAS))
        return Pool(pixels, targets["boxes"], targets["kinds"])


def _draw(seed: tuple[int, int]) -> tuple[NDArray[np.uint8], Boxes, NDArray[np.int64]]:
    scene = draw_scene(seed, DRAWN_SIZES[seed[1] % len(DRAWN_SIZES)], more_small=True)
    fitted = fit_within(scene.image, SIDE_PX, STEP_PX)
    canvas = np.full(CANVAS, 127, np.uint8)
    canvas[: fitted.height_px] = fitted.canvas[: fitted.height_px]
    boxes = np.zeros((MOST_SHAPES, 4), np.float32)
    kinds = np.full(MOST_SHAPES, NO_KIND, np.int64)
    for place, target in enumerate(scene.targets):
        box = np.array(target.corners)
        boxes[place] = box / (fitted.scale_x, fitted.scale_y, fitted.scale_x, fitted.scale_y)
        kinds[place] = KINDS.index(target.kind)
    return canvas, boxes, kinds
