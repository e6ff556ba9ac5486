"""A checkpoint at work on a device: batches of canvases in, detections out."""

from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modules.contract import Box, Detection, Label
from modules.errors import ModuleInvalid
from modules.huggingface.checkpoint import Checkpoint
from modules.huggingface.network import load_network, load_processor
from modules.huggingface.options import Options, Precision
from modules.huggingface.preparing import Preparation, Prepared
from modules.huggingface.ranking import Ranking, by_processor, ranking_of
from modules.tensors import Download, Uploader

CANVAS_STEP_PX = 32
"""Where images keep their proportions, canvases are multiples of this, so that similar ones share a batch."""
TRIAL_SIZE = (640, 480)
"""Width and height of the black image that warms the network up."""


class Pending(msgspec.Struct, frozen=True):
    """A batch that the device is at work on."""

    originals: Sequence[tuple[int, int]]
    download: Download


def load_detector(checkpoint: Checkpoint, device: str, options: Options) -> "Detector":
    """Loads a checkpoint onto a device and warms it up.

    Raises:
        ModuleInvalid: it is no detector with classes and boxes, or not all of one.
        ModuleLoadFailed: it needs timm, which is not installed.
    """
    place = torch.device(device)
    detector = Detector(load_network(checkpoint, place), load_processor(checkpoint), place, options)
    detector.warm_up(_batch_sizes(options, place))
    return detector


class Detector:
    """Runs one batch after the other, each image on its own canvas, all canvases of one shape."""

    def __init__(self, model: Any, processor: Any, device: torch.device, options: Options) -> None:
        self._model = model
        self._network = torch.compile(model) if options.compile == "on" else model
        self._processor = processor
        self._device = device
        self._precision = _precision(options.dtype, device)
        self._min_score = options.min_score
        self._labels: dict[int, str] = model.config.id2label
        # A network that takes no mask would see the canvas beside the image as a part of it.
        self._masked = bool(processor.do_pad) and "pixel_mask" in signature(model.forward).parameters
        self.preparation = Preparation(processor, CANVAS_STEP_PX if self._masked else 1)
        self._scale, self._shift = _normalization(processor, device)
        self._upload = Uploader(device)
        self._ranking: Ranking = partial(by_processor, processor=processor, min_score=options.min_score)

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Runs on black images, and finds the quickest right way to rank what comes out.

        Raises:
            ModuleInvalid: what comes out are not classes and boxes.
        """
        black = self.preparation.image(Image.new("RGB", TRIAL_SIZE))
        with torch.inference_mode():
            outputs = self._outputs([black])
        if "logits" not in outputs or "pred_boxes" not in outputs:
            raise ModuleInvalid(
                f"module 'huggingface:{self._model.name_or_path}': its network answers with "
                f"{', '.join(outputs)}, not with classes and boxes (logits, pred_boxes)"
            )
        _, queries, classes = outputs.logits.shape
        self._ranking = ranking_of(self._processor, queries, classes, self._min_score)
        for count in batch_sizes:
            self.collect(self.submit([black] * count))

    def submit(self, batch: Sequence[Prepared]) -> Pending:
        """Starts a batch and returns while the device is at work."""
        with torch.inference_mode():
            candidates = self._ranking(self._outputs(batch))
            return Pending([item.original for item in batch], Download(*candidates))

    def collect(self, pending: Pending) -> list[list[Detection]]:
        """Each image's detections above the lowest score, the surest first."""
        scores, classes, corners = (part.numpy() for part in pending.download.wait())
        sides = np.array([(width, height, width, height) for height, width in pending.originals], np.float32)
        corners = corners.clip(0, 1) * sides[:, None]
        answers: list[list[Detection]] = [[] for _ in pending.originals]
        found = scores > self._min_score
        for image, score, kind, corner in zip(
            found.nonzero()[0].tolist(),
            scores[found].tolist(),
            classes[found].tolist(),
            corners[found].tolist(),
            strict=True,
        ):
            answers[image].append(self._detection(score, kind, *corner))
        return answers

    def _detection(
        self, score: float, kind: int, left: float, top: float, right: float, bottom: float
    ) -> Detection:
        label = Label(self._labels.get(kind, str(kind)), score)
        return Detection(Box(left, top, max(0.0, right - left), max(0.0, bottom - top)), (label,))

    def _outputs(self, batch: Sequence[Prepared]) -> Any:
        pixels = torch.mul(self._pixels(batch), self._scale).add_(self._shift)
        inputs = {"pixel_values": pixels}
        if self._masked:
            inputs["pixel_mask"] = mask = self._mask(batch, pixels)
            pixels.mul_(mask[:, None])  # what lies beside an image is 0 after scaling, not before
        enabled = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled):
            return self._network(**inputs)

    def _pixels(self, batch: Sequence[Prepared]) -> Tensor:
        """Bytes (images, 3, height, width) on the device, channels-last."""
        canvases = [item.canvas for item in batch]
        on_device = [canvas for canvas in canvases if isinstance(canvas, Tensor)]
        if on_device:
            return torch.stack(on_device).permute(0, 3, 1, 2)
        return self._upload([canvas for canvas in canvases if isinstance(canvas, np.ndarray)])

    def _mask(self, batch: Sequence[Prepared], pixels: Tensor) -> Tensor:
        """1 where the image is, 0 beside it: (images, height, width)."""
        sizes = torch.tensor([(item.height_px, item.width_px) for item in batch])
        heights, widths = sizes.to(self._device, non_blocking=True).unbind(1)
        rows = torch.arange(pixels.shape[2], device=self._device) < heights[:, None]
        columns = torch.arange(pixels.shape[3], device=self._device) < widths[:, None]
        return (rows[:, :, None] & columns[:, None, :]).long()


def _batch_sizes(options: Options, device: torch.device) -> list[int]:
    """What to warm up with: where it is compiled, one image, few and many are compiled apart."""
    if options.compile == "off" and device.type != "cuda":
        return [1]
    return sorted({1, min(2, options.max_batch), options.max_batch})


def _normalization(processor: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """What makes bytes the network's input: `bytes * scale + shift`, by channel."""
    scale = torch.full((1, 3, 1, 1), processor.rescale_factor if processor.do_rescale else 1.0)
    shift = torch.zeros(1, 3, 1, 1)
    if processor.do_normalize:
        mean, std = (
            torch.tensor(each).view(1, -1, 1, 1) for each in (processor.image_mean, processor.image_std)
        )
        scale, shift = scale / std, -mean / std
    return scale.to(device), shift.to(device)


def _precision(wanted: Precision, device: torch.device) -> torch.dtype:
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
