"""The dummy's answers, against what was drawn."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from modules.contract import Box, Detection, Label
from modules.dummy.module import Dummy


def answer(image: Image.Image) -> tuple[Detection, ...]:
    module = Dummy()
    module.load("cpu")
    return module.infer([module.preprocess(image)])[0]


@pytest.mark.parametrize("colour", ["red", "blue", "yellow", "black", "magenta", "cyan", "grey"])
def test_a_rectangle_is_found_exactly(colour: str) -> None:
    image = Image.new("RGB", (120, 90), "white")
    ImageDraw.Draw(image).rectangle((10, 20, 59, 79), fill=colour)

    assert answer(image) == (Detection(Box(10, 20, 50, 60), (Label(colour, 1.0),)),)


def test_the_score_is_the_share_of_the_box_that_is_filled() -> None:
    image = Image.new("RGB", (100, 100), "black")
    ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill="white")
    ImageDraw.Draw(image).rectangle((10, 10, 19, 19), fill="white")

    assert answer(image) == (Detection(Box(0, 0, 20, 20), (Label("white", 0.5),)),)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (200, 100)])
def test_nothing_stands_out_of_one_colour(size: tuple[int, int]) -> None:
    assert answer(Image.new("RGB", size, (10, 200, 30))) == ()


def test_small_differences_are_noise() -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(100, 133, (50, 60, 3), np.uint8))
    assert answer(image) == ()


def test_a_jpeg_of_a_rectangle(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("dummy") / "image.jpg"
    image = Image.new("RGB", (160, 120), "white")
    ImageDraw.Draw(image).rectangle((32, 32, 95, 79), fill="blue")
    image.save(path, quality=90)

    with Image.open(path) as decoded:
        (found,) = answer(decoded.convert("RGB"))
    assert found.labels[0].label == "blue"
    assert [found.box.x, found.box.y, found.box.w, found.box.h] == pytest.approx([32, 32, 64, 48], abs=4)
