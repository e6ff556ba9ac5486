"""Images on their canvases."""

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from modules.canvas import GREY, fit_within
from modules.tensors import fit_tensor


@pytest.mark.parametrize(
    ("size", "inside", "canvas"),
    [
        ((1280, 960), (320, 240), (256, 320, 3)),
        ((960, 1280), (240, 320), (320, 256, 3)),
        ((320, 320), (320, 320), (320, 320, 3)),
        ((100, 40), (100, 40), (64, 128, 3)),
        ((3000, 1), (320, 1), (32, 320, 3)),
    ],
)
def test_an_image_is_scaled_down_and_lies_in_the_corner(
    size: tuple[int, int], inside: tuple[int, int], canvas: tuple[int, int, int]
) -> None:
    fitted = fit_within(Image.new("RGB", size, "red"), 320, 32)

    width, height = inside
    pixels = np.asarray(fitted.canvas)
    assert fitted.shape == pixels.shape == canvas
    assert fitted.nbytes == pixels.nbytes
    assert (fitted.width_px, fitted.height_px) == inside
    assert (fitted.scale_x * width, fitted.scale_y * height) == pytest.approx(size)
    assert (pixels[:height, :width] == (255, 0, 0)).all()
    assert (pixels[height:] == GREY).all()
    assert (pixels[:, width:] == GREY).all()


def test_the_image_keeps_its_orientation() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:240, :320] = 255

    canvas = np.asarray(fit_within(Image.fromarray(pixels), 320, 32).canvas)

    assert canvas[60, 80].tolist() == [255, 255, 255]
    assert canvas[60, 240].tolist() == canvas[180, 80].tolist() == [0, 0, 0]


def test_a_small_image_is_scaled_up_only_where_that_is_asked_for() -> None:
    small = Image.new("RGB", (80, 60), "red")

    as_it_is, enlarged = fit_within(small, 320), fit_within(small, 320, enlarge=True)

    assert (as_it_is.shape, as_it_is.scale_x) == ((60, 80, 3), 1)
    assert (enlarged.shape, enlarged.scale_x, enlarged.scale_y) == ((240, 320, 3), 0.25, 0.25)


@pytest.mark.parametrize("size", [(1280, 960), (300, 500), (50, 40), (700, 3)])
def test_a_tensor_fits_as_an_image_does(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    smooth = Image.fromarray(noise).resize((5, 4)).resize(size, Image.Resampling.BICUBIC)
    tensor = torch.from_numpy(np.array(smooth)).permute(2, 0, 1)

    image, same = fit_within(smooth, 320, 32, enlarge=True), fit_tensor(tensor, 320, 32, enlarge=True)

    assert isinstance(same.canvas, torch.Tensor)
    assert same.canvas.dtype == torch.uint8
    assert msgspec.structs.replace(same, canvas=image.canvas) == image
    assert np.abs(np.asarray(image.canvas).astype(int) - same.canvas.numpy()).max() <= 6
