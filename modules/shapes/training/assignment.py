"""Which cells learn which shape: task-aligned assignment (Feng et al. 2021, https://arxiv.org/abs/2108.07755)."""

from typing import NamedTuple

import torch
from torch import Tensor

from modules.shapes.network import CLASSES, STRIDES
from modules.shapes.training.pool import NO_KIND

MOST_CELLS = 10
"""Cells that learn one shape."""
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
"""How much a cell's class score and its box's overlap count when cells are chosen."""


class Goals(NamedTuple):
    """What the network should have said."""

    scores: Tensor
    """(images, cells, classes) in [0, 1]: for the cells that learn a shape, how well they fit it."""
    boxes: Tensor
    """(images, cells, 4)."""


@torch.no_grad()
def assign(scores: Tensor, predicted: Tensor, grid: Tensor, boxes: Tensor, kinds: Tensor) -> Goals:
    """Gives each shape to the cells that already tell it best.

    Args:
        scores: (images, cells, classes) in [0, 1].
        predicted: (images, cells, 4).
        grid: (cells, 3), see `boxes.cells`.
        boxes: (images, shapes, 4).
        kinds: (images, shapes), NO_KIND where there is no shape.
    """
    overlap = _overlaps(boxes, predicted)
    eligible = _eligible(grid, boxes) & (kinds != NO_KIND)[..., None]
    told = scores.transpose(1, 2).gather(1, kinds.clamp(min=0)[..., None].expand(-1, -1, scores.shape[1]))
    fit = told**SCORE_POWER * overlap**OVERLAP_POWER * eligible + eligible * 1e-9
    chosen = torch.zeros_like(eligible).scatter_(2, fit.topk(MOST_CELLS, dim=2).indices, True) & eligible
    # A cell chosen by several shapes takes the one that it overlaps most.
    owner = (overlap + 1e-6).mul(chosen).argmax(1)
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], True)
    fit, overlap = fit * chosen, overlap * chosen
    quality = fit / (fit.amax(2, keepdim=True) + 1e-9) * overlap.amax(2, keepdim=True)
    kind_of_cell = kinds.gather(1, owner).clamp(min=0)
    goals = torch.zeros_like(scores).scatter_(2, kind_of_cell[..., None], quality.amax(1)[..., None])
    assert goals.shape[2] == CLASSES
    return Goals(goals, boxes.gather(1, owner[..., None].expand(-1, -1, 4)))


def _eligible(grid: Tensor, boxes: Tensor) -> Tensor:
    """Cells whose centre is in the box, or within a stride of its centre on the finest grid."""
    x, y = grid[:, 0], grid[:, 1]
    left, top, right, bottom = (side[..., None] for side in boxes.unbind(-1))
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    reach = STRIDES[0]
    near = ((x - (left + right) / 2).abs() < reach) & ((y - (top + bottom) / 2).abs() < reach)
    return inside | (near & (grid[:, 2] == reach))


def _overlaps(boxes: Tensor, predicted: Tensor) -> Tensor:
    """Intersection over union: (images, shapes, cells)."""
    one, other = boxes[:, :, None], predicted[:, None]
    sides = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    common = sides.clamp(min=0).prod(-1)
    return common / (_area(one) + _area(other) - common + 1e-6)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
