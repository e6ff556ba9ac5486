"""The detector's network: a small residual trunk, a feature pyramid, and a head for each of its levels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
CHANNELS = (48, 96, 192)
"""Of the trunk at each stride."""
HIDDEN = (24, 48, 64)
"""Of the blocks' inner layer at each stride."""
NECK = 40
PIXEL_SCALE = 1 / 255
"""What bytes are multiplied by; without a shift, so that the zeros which convolutions pad with are black."""
CLASSES = 4
OUTPUTS = CLASSES + 4


class Detector(nn.Module):
    """Images to raw predictions, one row per cell of each stride's grid.

    Plain 3x3 convolutions with as many channels as the CPU's vectors like: depthwise ones have a tenth of
    the operations and take as long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 8, stride=2), convolution(8, 24, stride=2))
        inputs = (24, *CHANNELS)
        self.stages = nn.ModuleList(
            nn.Sequential(convolution(before, after, stride=2), Residual(after, hidden))
            for before, after, hidden in zip(inputs, CHANNELS, HIDDEN, strict=False)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(channels, NECK, 1) for channels in CHANNELS)
        # One for each level: a shared one learns with each level's own statistics and answers with their
        # mean, which makes boxes of the coarser levels too large and those of the finer ones too small.
        self.heads = nn.ModuleList(convolution(NECK, NECK) for _ in CHANNELS)
        self.out = nn.Conv2d(NECK, OUTPUTS, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Predicts.

        Args:
            pixels: (images, 3, height, width), from 0 to 1.

        Returns:
            (images, cells, 8): four class logits, then what `boxes.decode` reads; strides one after another.
        """
        features = []
        hidden = self.stem(pixels)
        for stage in self.stages:
            hidden = stage(hidden)
            features.append(hidden)
        levels = self._pyramid(features)
        outputs = [self.out(head(level)).flatten(2) for head, level in zip(self.heads, levels, strict=True)]
        return torch.cat(outputs, 2).transpose(1, 2)

    def _pyramid(self, features: list[Tensor]) -> list[Tensor]:
        levels: list[Tensor] = []
        for lateral, feature in zip(reversed(self.laterals), reversed(features), strict=True):
            level = lateral(feature)
            if levels:
                level = level + functional.interpolate(levels[-1], scale_factor=2.0)
            levels.append(level)
        return [functional.relu(level) for level in reversed(levels)]


class Residual(nn.Module):
    """Two convolutions whose sum with their input goes on."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.narrow = convolution(channels, hidden)
        self.widen = nn.Sequential(
            nn.Conv2d(hidden, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Of the same shape as the input."""
        widened: Tensor = self.widen(self.narrow(inputs))
        return functional.relu(widened + inputs, inplace=True)


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
