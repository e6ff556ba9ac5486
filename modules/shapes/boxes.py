"""From the network's raw outputs to boxes, for all images of a batch at once."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from modules.shapes.network import CLASSES, STRIDES

MOST_CANDIDATES = 100
"""Of each image this many of the best cell and class pairs go on."""
MIN_SCORE = 0.05
"""Lower ones are hardly ever right. Whoever wants to be surer takes the results of higher scores alone."""
MOST_OVERLAP = 0.5
"""Of two boxes of one kind whose intersection over union is larger, the better stays."""


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # or training could not use what inference has left in the cache
def cells(height: int, width: int, device: torch.device) -> Tensor:
    """The cells of a canvas in the order of the network's outputs: (cells, 3), centre x, centre y, stride."""
    grids = []
    for stride in STRIDES:
        ys = (torch.arange(height // stride, device=device) + 0.5) * stride
        xs = (torch.arange(width // stride, device=device) + 0.5) * stride
        x, y = torch.meshgrid(xs, ys, indexing="xy")
        grids.append(torch.stack((x, y, torch.full_like(x, stride)), -1).reshape(-1, 3))
    return torch.cat(grids)


def decode(raw: Tensor, grid: Tensor) -> Tensor:
    """Boxes (…, cells, 4) as left, top, right, bottom in pixels of the canvas; `grid` holds each one's cell.

    A cell tells how far its box's centre is from its own, in strides, and the logarithms of the box's half
    sides in strides: much as in YOLOX (https://arxiv.org/abs/2107.08430).
    """
    stride = grid[..., 2:]
    centre = grid[..., :2] + raw[..., CLASSES : CLASSES + 2] * stride
    half = raw[..., CLASSES + 2 :].clamp(-6, 6).exp() * stride
    return torch.cat((centre - half, centre + half), -1)


def candidates(raw: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best cell and class pairs of each image, whatever their score: nothing here waits for the device.

    Returns:
        scores (images, n), the best first; boxes (images, n, 4); kinds (images, n).
    """
    raw = raw.float()
    logits = raw[..., :CLASSES].flatten(1)
    best, places = logits.topk(min(MOST_CANDIDATES, logits.shape[1]), dim=1)
    cell, kinds = places // CLASSES, places % CLASSES
    chosen = raw.gather(1, cell[..., None].expand(-1, -1, raw.shape[2]))
    return best.sigmoid(), decode(chosen, grid[cell]), kinds


def survivors(scores: Tensor, boxes: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression of all images and kinds at once.

    What stays follows from what stays of the better ones, so the answer is the fixed point that is reached
    after as many rounds as boxes suppress one another in a row, a few (Cluster-NMS,
    https://arxiv.org/abs/2005.03572). torchvision's own takes 160 MB of memory to import.

    Args:
        scores, boxes, kinds: as `candidates` returns them, the best of each image first.

    Returns:
        Indexes of images and of their candidates that stay: by image, and there the best first.
    """
    sure = scores >= MIN_SCORE
    most = int(sure.sum(1).max()) if len(scores) else 0
    sure, boxes, kinds = sure[:, :most], boxes[:, :most], kinds[:, :most]
    # Of each candidate (row) those better ones (columns) that would suppress it.
    rivals = (_overlapping(boxes) & (kinds[:, :, None] == kinds[:, None, :])).tril_(-1)
    kept, before = sure, torch.zeros_like(sure)
    while not torch.equal(kept, before):
        before = kept
        kept = sure & ~(rivals & before[:, None, :]).any(2)
    image, place = kept.nonzero(as_tuple=True)
    return image, place


def _overlapping(boxes: Tensor) -> Tensor:
    """Of each two boxes of an image whether they overlap by more than MOST_OVERLAP: (images, n, n)."""
    # Coordinate by coordinate: tensors whose last dimension is 4 take three times as long.
    left, top, right, bottom = boxes.permute(2, 0, 1).contiguous()
    width = _across(torch.minimum, right).sub_(_across(torch.maximum, left)).clamp_(min=0)
    height = _across(torch.minimum, bottom).sub_(_across(torch.maximum, top)).clamp_(min=0)
    shared = width.mul_(height)
    union = _across(torch.add, (right - left) * (bottom - top)).sub_(shared)
    return shared > union.mul_(MOST_OVERLAP)


def _across(operation: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """An operation on each two values of an image: (images, n, n)."""
    return operation(values[:, :, None], values[:, None, :])
