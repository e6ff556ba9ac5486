"""The shipped weights: checked, loaded, and made quick."""

import hashlib
from pathlib import Path

import safetensors.torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modules.errors import ModuleLoadFailed
from modules.shapes.network import PIXEL_SCALE, Detector

WEIGHTS = Path(__file__).with_name("weights.safetensors")
SHA256 = "75e1194696e7fd1ebe04b45d1726690e31e51cb764ccf48df93bb7b9eb58a181"
"""Of WEIGHTS; other bytes are not loaded. `modules.shapes.train` prints it."""


def load_network(file: Path = WEIGHTS, sha256: str = SHA256) -> Detector:
    """The trained network, for pixels from 0 to 255; its convolutions do the batch normalization and scaling.

    Raises:
        ModuleLoadFailed: the file is not there, or not the one whose checksum is pinned.
    """
    network = Detector()
    network.load_state_dict(safetensors.torch.load(_checked(file, sha256)))
    _fuse(network.eval().requires_grad_(False))
    # Exact: pixels are scaled and not shifted, so the zeros that convolutions pad with stay zeros.
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.weight.mul_(PIXEL_SCALE)
    return network


def _checked(file: Path, sha256: str) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModuleLoadFailed(f"module 'shapes': {file} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModuleLoadFailed(f"module 'shapes': {file} has the sha256 {found}, not {sha256}")
    return data


def _fuse(network: nn.Module) -> None:
    for child in network.children():
        _fuse(child)
    if not isinstance(network, nn.Sequential):
        return
    match list(network):
        case [nn.Conv2d() as convolution, nn.BatchNorm2d() as normalization, *_]:
            network[0] = fuse_conv_bn_eval(convolution, normalization)
            del network[1]
