"""Batches of a pool in random order, each turned, mirrored and recoloured as a whole."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.shapes.training.pool import NO_KIND, Boxes, Pool

LEAST_SIDE_PX = 4


class Batch(NamedTuple):
    """Images (n, 3, height, width) from 0 to 255, their boxes (n, shapes, 4) and kinds (n, shapes)."""

    pixels: Tensor
    boxes: Tensor
    kinds: Tensor


def batches(pool: Pool, size: int, shrinks: Iterable[int], rng: np.random.Generator) -> Iterator[Batch]:
    """A batch for each of `shrinks`; every image of the pool once, then every one again in another order.

    Args:
        pool: what to take images from.
        size: images in a batch.
        shrinks: of each batch, how many times smaller its images are made; work falls with the square.
        rng: of the order and the changes.
    """
    order = np.empty(0, np.int64)
    for shrink in shrinks:
        if len(order) < size:
            order = np.concatenate((order, rng.permutation(len(pool.images))))
        chosen, order = np.sort(order[:size]), order[size:]
        yield _changed(_taken(pool, chosen, shrink), rng)


def _taken(pool: Pool, chosen: NDArray[np.int64], shrink: int) -> Pool:
    """Some images of a pool, made smaller; shapes that are hardly there any more are not asked for."""
    boxes = pool.boxes[chosen] / np.float32(shrink)
    sides = (boxes[..., 2:] - boxes[..., :2]).max(-1)
    kinds = np.where(sides < LEAST_SIDE_PX, NO_KIND, pool.kinds[chosen])
    return Pool(pool.images[chosen, ::shrink, ::shrink], boxes, kinds)


def _changed(pool: Pool, rng: np.random.Generator) -> Batch:
    images, boxes = pool.images[..., rng.permutation(3)], pool.boxes
    if rng.random() < 0.5:
        images, boxes = images[:, :, ::-1], _mirrored(boxes, images.shape[2])
    if rng.random() < 0.5:
        images, boxes = images[:, ::-1], _turned(_mirrored(_turned(boxes), images.shape[1]))
    if rng.random() < 0.5:
        images, boxes = images.transpose(0, 2, 1, 3), _turned(boxes)
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return Batch(pixels, torch.from_numpy(boxes), torch.from_numpy(pool.kinds))


def _mirrored(boxes: Boxes, width: int) -> Boxes:
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack((width - right, top, width - left, bottom), -1)


def _turned(boxes: Boxes) -> Boxes:
    return boxes[..., [1, 0, 3, 2]]
