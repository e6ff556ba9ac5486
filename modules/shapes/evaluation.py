"""How precise a module is on images that were drawn for it and never learnt from."""

import io
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from modules.answers import read_answers
from modules.contract import Detection, Module, ModuleTraits, bucketing
from modules.shapes.drawing import draw_scene
from modules.shapes.kinds import KINDS
from modules.shapes.precision import Corners, Tally
from modules.shapes.side_by_side import side_by_side

PROPORTIONS = ((4, 3), (3, 4), (3, 2), (16, 9), (1, 1))
"""Of the images, by turns."""
QUALITY = 90
"""Of the JPEG files that the images come as."""
BANDS = ((0.0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.61))
"""Sizes that are reported apart: the longer side of a box, as a share of the image's."""

ALL_SIZES = (0.0, 1.01)


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """The images to measure with."""

    images: int
    seed: int
    side_px: int
    """Their longer side."""


class Band(msgspec.Struct, frozen=True):
    """Shapes of one range of sizes: how many there were, and the mean of their kinds' average precisions."""

    low: float
    high: float
    shapes: int
    mean_precision: float


class Evaluation(msgspec.Struct, frozen=True):
    """Average precision at an overlap of 0.5: by kind, of all kinds, and by size."""

    by_kind: dict[str, float]
    mean_precision: float
    by_size: tuple[Band, ...]


class _Drawn(msgspec.Struct, frozen=True):
    """A held-out image's file, and by kind the boxes in it, as shares of its longer side."""

    file: bytes
    wanted: dict[str, Corners]


class _Prepared(msgspec.Struct, frozen=True):
    """An image on its way through the module."""

    wanted: dict[str, Corners]
    side_px: int
    """The longer side of the image that the module was given."""
    item: Any


def evaluate(
    module: Module[Any], held_out: HeldOut, *, reduced: bool = False, processes: int = 2
) -> Evaluation:
    """Shows a loaded module the held-out images, in batches as a worker would.

    Args:
        module: one that answers with the labels of KINDS.
        held_out: which images.
        reduced: decode them at the scale that the module's `decode_size_px` allows.
        processes: draw side by side.
    """
    tallies = {(kind, band): Tally(*band) for kind in KINDS for band in (ALL_SIZES, *BANDS)}
    reduced_px = ModuleTraits.of(module).decode_size_px if reduced else None
    prepared = (_prepare(module, drawn, reduced_px) for drawn in _drawn(held_out, processes))
    for image, detections in _answered(module, prepared):
        for (kind, _), tally in tallies.items():
            found, scores = _found(detections, kind)
            tally.add(found / image.side_px, scores, image.wanted[kind])
    by_kind = {kind: tallies[kind, ALL_SIZES].average_precision() for kind in KINDS}
    by_size = tuple(_band(band, [tallies[kind, band] for kind in KINDS]) for band in BANDS)
    return Evaluation(by_kind, _mean(by_kind.values()), by_size)


def lines(found: Evaluation) -> list[str]:
    """An evaluation as a table."""
    table = [f"{'AP@0.5':<16} {'':>8}"]
    table += [f"{kind:<16} {precision:8.4f}" for kind, precision in found.by_kind.items()]
    table += [f"{'mAP@0.5':<16} {found.mean_precision:8.4f}", ""]
    table.append(f"{'size of box':<16} {'mAP@0.5':>8} {'shapes':>8}")
    for band in found.by_size:
        size = f"{band.low:.0%} to {band.high:.0%}"
        table.append(f"{size:<16} {band.mean_precision:8.4f} {band.shapes:8d}")
    return table


def _band(band: tuple[float, float], tallies: list[Tally]) -> Band:
    mean = _mean(tally.average_precision() for tally in tallies)
    return Band(*band, sum(tally.wanted for tally in tallies), mean)


def _mean(precisions: Iterable[float]) -> float:
    """Of the kinds that there were any shapes of."""
    known = [precision for precision in precisions if not math.isnan(precision)]
    return sum(known) / len(known) if known else math.nan


def _drawn(held_out: HeldOut, processes: int) -> Iterator[_Drawn]:
    seeds = [(held_out.seed, index, held_out.side_px) for index in range(held_out.images)]
    return side_by_side(_draw, seeds, processes)


def _draw(seed: tuple[int, int, int]) -> _Drawn:
    index, side_px = seed[1:]
    proportions = PROPORTIONS[index % len(PROPORTIONS)]
    width, height = (round(side_px * part / max(proportions)) for part in proportions)
    scene = draw_scene(seed[:2], (width, height))
    file = io.BytesIO()
    scene.image.save(file, "JPEG", quality=QUALITY)
    wanted = {kind: [target.corners for target in scene.targets if target.kind == kind] for kind in KINDS}
    return _Drawn(file.getvalue(), {kind: _corners(boxes) / side_px for kind, boxes in wanted.items()})


def _prepare(module: Module[Any], drawn: _Drawn, reduced_px: int | None) -> _Prepared:
    with Image.open(io.BytesIO(drawn.file)) as image:
        if reduced_px is not None:
            image.draft(None, (reduced_px, reduced_px))
        pixels = image.convert("RGB")
    return _Prepared(drawn.wanted, max(pixels.size), module.preprocess(pixels))


def _answered(
    module: Module[Any], images: Iterable[_Prepared]
) -> Iterator[tuple[_Prepared, Sequence[Detection]]]:
    """Each image with its detections, those of one kind of canvas in one batch."""
    most, kind_of = ModuleTraits.of(module).max_batch, bucketing(module)
    waiting: dict[Hashable, list[_Prepared]] = {}
    for image in images:
        batch = waiting.setdefault(kind_of(image.item), [])
        batch.append(image)
        if len(batch) == most:
            yield from _infer(module, batch)
            batch.clear()
    for batch in waiting.values():
        yield from _infer(module, batch)


def _infer(module: Module[Any], batch: list[_Prepared]) -> Iterator[tuple[_Prepared, Sequence[Detection]]]:
    answers = read_answers(module.infer([image.item for image in batch]), len(batch))
    return zip(list(batch), answers, strict=True)


def _found(detections: Sequence[Detection], kind: str) -> tuple[Corners, list[float]]:
    """The boxes that have this label, and its scores."""
    boxes, scores = [], []
    for detection in detections:
        box = detection.box
        for label in detection.labels:
            if label.label == kind:
                boxes.append((box.x, box.y, box.x + box.w, box.y + box.h))
                scores.append(label.score)
    return _corners(boxes), scores


def _corners(boxes: Sequence[tuple[float, float, float, float]]) -> Corners:
    return np.asarray(boxes, np.float64).reshape(-1, 4)
