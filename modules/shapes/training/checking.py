"""How precise the network is while it learns."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modules.shapes import boxes
from modules.shapes.kinds import KINDS
from modules.shapes.network import PIXEL_SCALE
from modules.shapes.precision import Tally
from modules.shapes.training.pool import Pool

BATCH = 32


def mean_precision(network: nn.Module, pool: Pool, device: str) -> float:
    """mAP@0.5 on a pool's images."""
    tallies = [Tally() for _ in KINDS]
    for start in range(0, len(pool.images), BATCH):
        images = pool.images[start : start + BATCH]
        for index, found in enumerate(_detect(network, images, device), start=start):
            _add(tallies, found, pool.boxes[index].astype(np.float64), pool.kinds[index])
    return float(np.mean([tally.average_precision() for tally in tallies]))


@torch.no_grad()
def _detect(
    network: nn.Module, images: NDArray[np.uint8], device: str
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each image the scores, boxes and kinds of what was found."""
    pixels = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).to(device)
    grid = boxes.cells(*pixels.shape[2:], pixels.device)
    scores, corners, kinds = (part.cpu() for part in boxes.candidates(network(pixels * PIXEL_SCALE), grid))
    image, place = boxes.survivors(scores, corners, kinds)
    mine = [place[image == index] for index in range(len(images))]
    return [(scores[index, at], corners[index, at], kinds[index, at]) for index, at in enumerate(mine)]


def _add(
    tallies: list[Tally],
    found: tuple[Tensor, Tensor, Tensor],
    wanted: NDArray[np.float64],
    wanted_kinds: NDArray[np.int64],
) -> None:
    scores, corners, kinds = found
    for kind, tally in enumerate(tallies):
        mine = kinds == kind
        tally.add(corners[mine].double().numpy(), scores[mine].tolist(), wanted[wanted_kinds == kind])
