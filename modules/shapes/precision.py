"""Average precision at an overlap of 0.5, as COCO matches and PASCAL VOC 2010 integrates."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.float64]
"""Boxes (n, 4): left, top, right, bottom."""

LEAST_OVERLAP = 0.5


class Tally:
    """Collects the answers of one kind over many images, and says how precise they are."""

    def __init__(self, low: float = 0.0, high: float = math.inf) -> None:
        """Measures boxes whose longer side is from `low` up to, not including, `high`."""
        self._low = low
        self._high = high
        self._scores: list[float] = []
        self._hits: list[bool] = []
        self.wanted = 0
        """How many there were to be found."""

    def add(self, found: Corners, scores: Sequence[float], wanted: Corners) -> None:
        """Adds one image's boxes of this kind: those that were found, with scores, and those that are there.

        Each one found, the best first, takes the free wanted one that it overlaps most. A wanted box of
        another size than is measured does not count, nor does what matches it, nor a miss of such a size.
        """
        overlaps, measured = overlap(found, wanted), self._measured(wanted)
        no_miss = ~self._measured(found)
        free = np.ones(len(wanted), bool)
        for index in np.argsort(-np.asarray(scores), kind="stable"):
            match = _best(np.where(free, overlaps[index], 0.0))
            if match is not None:
                free[match] = False
            if no_miss[index] if match is None else not measured[match]:
                continue
            self._scores.append(scores[index])
            self._hits.append(match is not None)
        self.wanted += int(measured.sum())

    def average_precision(self) -> float:
        """The area under the curve of precision over recall, each precision the best at no lower recall."""
        if not self.wanted:
            return math.nan
        order = np.argsort(-np.asarray(self._scores), kind="stable")
        hits = np.asarray(self._hits, bool)[order]
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(best[hits].sum() / self.wanted)

    def _measured(self, boxes: Corners) -> NDArray[np.bool_]:
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
        return np.asarray((sides >= self._low) & (sides < self._high), np.bool_)


def overlap(one: Corners, other: Corners) -> Corners:
    """Intersection over union of each box of `one` with each of `other`."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod((high - low).clip(min=0), axis=-1)
    union = _area(one)[:, None] + _area(other)[None] - common
    return np.asarray(common / np.maximum(union, 1e-12), np.float64)


def _best(overlaps: Corners) -> int | None:
    best = int(overlaps.argmax()) if len(overlaps) else None
    return best if best is not None and overlaps[best] >= LEAST_OVERLAP else None


def _area(boxes: Corners) -> Corners:
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1), np.float64)
