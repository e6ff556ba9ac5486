"""JPEG files to pixels on the device, by torchvision (nvJPEG on CUDA): where the CPU's decoding is the limit.

What is no plain JPEG, or does not decode here, is left to Pillow, so that every refusal keeps its code.
This imports torch: import it only where it was asked for.
"""

import warnings
from typing import TYPE_CHECKING

import torch
from PIL.Image import Transpose
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from infra.images.decoding import OpenImage

if TYPE_CHECKING:
    from typing_extensions import Buffer

MOST_PIXELS = 2**25
"""Larger images are left to Pillow as well: it can decode them reduced, while here they take full size."""

_END_OF_IMAGE = b"\xff\xd9"

# Fetched bytes are read-only, of which torch warns once a process; here they are only read.
with warnings.catch_warnings(action="ignore"):
    torch.frombuffer(b"\0", dtype=torch.uint8)


class TensorDecoder:
    """Decodes for modules that have `preprocess_tensor`; several threads may use one at once."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def decode(self, opened: OpenImage, raw: "Buffer") -> Tensor | None:
        """Decodes at full size.

        Args:
            opened: the image's header, as `open_image` read it from `raw`.

        Returns:
            Bytes (3, height, width) on the device, RGB, upright; None where Pillow has to decode.
        """
        if not _is_plain(opened, memoryview(raw)):
            return None
        try:
            pixels = decode_jpeg(torch.frombuffer(raw, dtype=torch.uint8), ImageReadMode.RGB, self._device)
        except RuntimeError:  # damaged, or the device has no memory
            return None
        upright = _upright(pixels, opened.turn)
        return upright if upright.shape == (3, opened.header.height_px, opened.header.width_px) else None


def _is_plain(opened: OpenImage, view: memoryview) -> bool:
    """Whether all decoders agree on it; without an end, some decode what there is and say nothing."""
    header = opened.header
    return (
        opened.is_plain_jpeg
        and header.width_px * header.height_px <= MOST_PIXELS
        and bytes(view[-2:]) == _END_OF_IMAGE
    )


def _upright(pixels: Tensor, turn: Transpose | None) -> Tensor:
    match turn:
        case None:
            return pixels
        case Transpose.FLIP_LEFT_RIGHT:
            return pixels.flip(-1)
        case Transpose.FLIP_TOP_BOTTOM:
            return pixels.flip(-2)
        case Transpose.TRANSPOSE:
            return pixels.mT
        case Transpose.TRANSVERSE:
            return pixels.mT.flip(-1, -2)
        case Transpose.ROTATE_90:
            return pixels.rot90(1, (-2, -1))
        case Transpose.ROTATE_180:
            return pixels.rot90(2, (-2, -1))
        case Transpose.ROTATE_270:
            return pixels.rot90(3, (-2, -1))
