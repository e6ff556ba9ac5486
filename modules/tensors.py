"""The way of a batch to the device and back. Imports torch: import it in `load`, not at a module's top."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from modules.canvas import GREY, Fitted, canvas_size, fitted_size


class Uploader:
    """Turns images into a batch on the device through host buffers that are used again and again.

    On CUDA the buffers are pinned and the copy is asynchronous; a buffer whose copy is still under way is
    waited for before it is written to. For one thread.
    """

    def __init__(self, device: str | torch.device, buffers: int = 2) -> None:
        self._device = torch.device(device)
        self._buffers = [_HostBuffer(self._device) for _ in range(buffers)]
        self._turn = 0

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Stacks images of one shape (height, width, channels) into a batch on the device.

        Returns:
            uint8 (images, channels, height, width) with channels-last strides. On the CPU it is the buffer
            itself, so it holds until the call after the next (with two buffers).

        Raises:
            ValueError: there are no images, or they differ in shape.
        """
        buffer = self._buffers[self._turn]
        self._turn = (self._turn + 1) % len(self._buffers)
        return buffer.send(images).permute(0, 3, 1, 2)


class Download:
    """Tensors of the device on their way to the host, so that nobody waits before the results are needed."""

    def __init__(self, *tensors: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._hosts = tuple(_pinned_copy(tensor) for tensor in tensors)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(tensors[0].device))
        else:
            self._hosts = tensors

    def wait(self) -> tuple[Tensor, ...]:
        """Waits until they are there, and returns them as tensors of the CPU."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._hosts


def fit_tensor(image: Tensor, side_px: int, multiple_px: int = 1, *, enlarge: bool = False) -> Fitted:
    """As `canvas.fit_within`, for an image that lies on the device: bytes (3, height, width), RGB."""
    rows, columns = image.shape[1:]
    width, height = fitted_size((columns, rows), side_px, enlarge=enlarge)
    pixels = functional.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)
    canvas_width, canvas_height = canvas_size((width, height), multiple_px)
    canvas = image.new_full((canvas_height, canvas_width, 3), GREY)
    canvas[:height, :width] = pixels[0].round().clamp(0, 255).permute(1, 2, 0)
    return Fitted(canvas, width, height, columns / width, rows / height)


class _HostBuffer:
    """Host memory for one batch, and the copy that last read from it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned = device.type == "cuda"
        self._bytes = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None

    def send(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Copies images into the buffer and from there to the device: (images, height, width, channels)."""
        if self._copied is not None:
            self._copied.synchronize()
        host = self._view((len(images), *images[0].shape) if images else (0,))
        np.stack(images, out=host.numpy())
        if not self._pinned:
            return host
        batch = host.to(self._device, non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(self._device))
        return batch

    def _view(self, shape: tuple[int, ...]) -> Tensor:
        size = int(np.prod(shape))
        if self._bytes.numel() < size:
            self._bytes = torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)
        return self._bytes[:size].view(shape)


def _pinned_copy(tensor: Tensor) -> Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
