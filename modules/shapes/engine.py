"""The loaded network at work: batches in, detections out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modules.canvas import Fitted
from modules.contract import Box, Detection, Label
from modules.shapes import boxes
from modules.shapes.kinds import KINDS
from modules.shapes.weights import load_network
from modules.tensors import Download, Uploader


class Pending(NamedTuple):
    """A batch on its way: its images, and their candidates (see `boxes.candidates`)."""

    batch: Sequence[Fitted]
    found: Download


class Engine:
    """Runs the network in half precision on CUDA, in single precision elsewhere. For one thread."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._network = load_network().to(memory_format=torch.channels_last).to(self._device)
        self._upload = Uploader(self._device)

    def warm_up(self, most_images: int, size: tuple[int, int]) -> None:
        """Runs on black canvases of `size` (height, width), alone and as many as there may be."""
        height, width = size
        black = Fitted(np.zeros((height, width, 3), np.uint8), width, height, 1.0, 1.0)
        for count in (1, most_images):
            self.collect(self.submit([black] * count))

    @torch.inference_mode()
    def submit(self, batch: Sequence[Fitted]) -> Pending:
        """Sends images of one canvas to the device; on CUDA it returns before they are answered."""
        pixels = self._pixels(batch)
        grid = boxes.cells(*pixels.shape[2:], pixels.device)
        with torch.autocast(self._device.type, torch.float16, enabled=self._device.type == "cuda"):
            raw = self._network(pixels.float())
        return Pending(batch, Download(*boxes.candidates(raw, grid)))

    @torch.inference_mode()
    def collect(self, pending: Pending) -> list[list[Detection]]:
        """Waits for a batch; boxes are in pixels of the images that `preprocess` was given."""
        scores, corners, kinds = pending.found.wait()
        image, place = boxes.survivors(scores, corners, kinds)
        sides = _in_pixels(corners[image, place], image, pending.batch)
        solid = (sides[:, 2:] > 0).all(1)  # others lie on the canvas beside the image
        image, place, sides = image[solid], place[solid], sides[solid]
        answers: list[list[Detection]] = [[] for _ in pending.batch]
        rows = zip(
            image.tolist(),
            sides.tolist(),
            kinds[image, place].tolist(),
            scores[image, place].tolist(),
            strict=True,
        )
        for index, box, kind, score in rows:
            answers[index].append(Detection(Box(*box), (Label(KINDS[kind], score),)))
        return answers

    def _pixels(self, batch: Sequence[Fitted]) -> Tensor:
        """Canvases as (images, 3, height, width) on the device, channels last."""
        on_host = [item.canvas for item in batch if isinstance(item.canvas, np.ndarray)]
        if on_host:
            return self._upload(on_host)
        return torch.stack([item.canvas for item in batch if isinstance(item.canvas, Tensor)]).permute(
            0, 3, 1, 2
        )


def _in_pixels(corners: Tensor, image: Tensor, batch: Sequence[Fitted]) -> Tensor:
    """Boxes (n, 4) on canvases, clipped to their images and scaled: left, top, width, height."""
    limits = torch.tensor([(item.width_px, item.height_px) for item in batch]).repeat(1, 2)[image]
    scales = torch.tensor([(item.scale_x, item.scale_y) for item in batch]).repeat(1, 2)[image]
    clipped = corners.clamp(min=0).minimum(limits) * scales
    return torch.cat((clipped[:, :2], clipped[:, 2:] - clipped[:, :2]), 1)
