"""Faces in photographs: MTCNN (Zhang et al. 2016, https://arxiv.org/abs/1604.02878)."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from modules.batches import answer_by_kind
from modules.contract import Box, Detection, Label

SIDE_PX = 640
"""Images are made to fit into this square; faces under 20 px there are not found."""
STEP_PX = 64
"""Prepared sides are multiples of this: images of nearly the same shape share a pass through the networks."""
MIN_SCORE = 0.9
"""The lowest probability that is answered; the networks' own last threshold is 0.7."""


class Prepared(msgspec.Struct, frozen=True):
    """An image made to fit, in the corner of a grey canvas."""

    canvas: NDArray[np.uint8]
    scale_x: float
    scale_y: float
    width_px: int
    height_px: int


class Faces:
    """Answers each face with a box and the label `face`, the surest first."""

    name = "faces"
    version = "1.0"
    max_batch = 16
    decode_size_px = SIDE_PX

    def __init__(self) -> None:
        self._mtcnn: Any = None

    def load(self, device: str) -> None:
        """Loads the weights from the wheel and warms the networks up."""
        from modules.faces.weights import load_mtcnn

        self._mtcnn = load_mtcnn(device)
        self._detect([np.zeros((STEP_PX, STEP_PX, 3), np.uint8)])

    def preprocess(self, image: Image) -> Prepared:
        """Scales the image down to fit, never up, and lays it on its canvas."""
        shrink = min(1.0, SIDE_PX / max(image.size))
        width, height = (max(1, round(side * shrink)) for side in image.size)
        canvas = np.full((_round_up(height), _round_up(width), 3), 127, np.uint8)
        canvas[:height, :width] = np.asarray(image.resize((width, height), Resampling.BILINEAR))
        return Prepared(canvas, image.width / width, image.height / height, width, height)

    def bucket(self, prepared: Prepared) -> tuple[int, ...]:
        """Canvases of one shape go through the networks together."""
        return prepared.canvas.shape

    def infer(self, batch: Sequence[Prepared]) -> list[list[Detection]]:
        """Finds the faces of a batch, the images of each bucket together."""
        return answer_by_kind(batch, self.bucket, self._infer)

    def _infer(self, batch: Sequence[Prepared]) -> list[list[Detection]]:
        found = self._detect([item.canvas for item in batch])
        return [_detections(item, faces) for item, faces in zip(batch, found, strict=True)]

    def _detect(self, canvases: list[NDArray[np.uint8]]) -> list[list[tuple[NDArray[np.float64], float]]]:
        """For each canvas its faces as (left, top, right, bottom) and probability."""
        import torch

        with torch.inference_mode():
            all_corners, all_scores = self._mtcnn.detect(np.stack(canvases))
        return [
            [] if corners is None else list(zip(corners.astype(float), map(float, scores), strict=True))
            for corners, scores in zip(all_corners, all_scores, strict=True)
        ]


def _detections(item: Prepared, faces: list[tuple[NDArray[np.float64], float]]) -> list[Detection]:
    """Boxes clipped to the image and in its own pixels; those that lie on the canvas alone are dropped."""
    found = []
    for corners, score in sorted(faces, key=lambda face: -face[1]):
        left, right = np.clip(corners[[0, 2]], 0, item.width_px) * item.scale_x
        top, bottom = np.clip(corners[[1, 3]], 0, item.height_px) * item.scale_y
        if score >= MIN_SCORE and right > left and bottom > top:
            box = Box(float(left), float(top), float(right - left), float(bottom - top))
            found.append(Detection(box, (Label("face", min(score, 1.0)),)))
    return found


def _round_up(side_px: int) -> int:
    return -(-side_px // STEP_PX) * STEP_PX
