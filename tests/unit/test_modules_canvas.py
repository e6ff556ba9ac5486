"""Images on their canvases."""

import numpy as np
import pytest
from PIL import Image

from modules.canvas import GREY, fit_within


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
def test_an_image_is_scaled_down_never_up(
    size: tuple[int, int], inside: tuple[int, int], canvas: tuple[int, int, int]
) -> None:
    fitted = fit_within(Image.new("RGB", size, "red"), 320, 32)

    width, height = inside
    assert fitted.shape == fitted.canvas.shape == canvas
    assert (fitted.width_px, fitted.height_px) == inside
    assert (fitted.scale_x * width, fitted.scale_y * height) == pytest.approx(size)
    assert (fitted.canvas[:height, :width] == (255, 0, 0)).all()
    assert (fitted.canvas[height:] == GREY).all()
    assert (fitted.canvas[:, width:] == GREY).all()


def test_the_image_keeps_its_orientation() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:240, :320] = 255

    fitted = fit_within(Image.fromarray(pixels), 320, 32)

    assert fitted.canvas[60, 80].tolist() == [255, 255, 255]
    assert fitted.canvas[60, 240].tolist() == fitted.canvas[180, 80].tolist() == [0, 0, 0]
