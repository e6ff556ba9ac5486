"""Annotated pictures: what is drawn where, at any size and with any box."""

import pytest
from PIL import Image

from producers.drawing import LEAST_SIDE_PX, annotate, label_colour, label_text
from schemas.messages import Box, Detection, Label

WHITE = (255, 255, 255)


def detection(x: float, y: float, w: float, h: float, label: str = "face", score: float = 0.9) -> Detection:
    return Detection(Box(x, y, w, h), (Label("other", 0.1), Label(label, score)))


def pixels(image: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    data = image.load()
    assert data is not None
    return [(x, y) for y in range(image.height) for x in range(image.width) if data[x, y] == colour]


def test_the_box_is_drawn_where_it_is_and_the_label_above() -> None:
    picture = annotate(Image.new("RGB", (600, 500), WHITE), [detection(200, 200, 100, 80)])
    assert picture.size == (600, 500)
    drawn = pixels(picture, label_colour("face"))
    assert (200, 240) in drawn
    assert (300, 240) in drawn
    assert (250, 280) in drawn
    assert (250, 240) not in drawn
    assert min(y for _, y in drawn) < 200
    assert max(y for _, y in drawn) == 280


def test_a_box_at_the_upper_edge_has_its_label_inside() -> None:
    picture = annotate(Image.new("RGB", (600, 500), WHITE), [detection(200, 0, 100, 200)])
    label_rows = [y for x, y in pixels(picture, label_colour("face")) if 205 <= x < 210]
    assert min(label_rows) == 0
    assert any(5 < y < 50 for y in label_rows)


@pytest.mark.parametrize(
    "box",
    [
        (-50, -50, 100, 100),
        (590, 490, 500, 500),
        (2000, 2000, 10, 10),
        (-2000, 20, 10, 10),
        (0, 0, 0, 0),
        (599.9, 499.9, 0.05, 0.05),
        (0, 0, 600, 500),
    ],
)
def test_no_box_is_too_odd(box: tuple[float, float, float, float]) -> None:
    picture = annotate(Image.new("RGB", (600, 500), WHITE), [detection(*box)])
    assert pixels(picture, label_colour("face"))


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (100, 479), (480, 10), (3000, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_any_size_and_mode(size: tuple[int, int], mode: str) -> None:
    picture = annotate(Image.new(mode, size), [detection(0, 0, *size)])
    assert picture.mode == "RGB"
    assert max(picture.size) >= LEAST_SIDE_PX
    assert picture.width * size[1] == picture.height * size[0]


def test_the_original_stays_as_it_was() -> None:
    image = Image.new("RGB", (600, 500), WHITE)
    annotate(image, [detection(1, 1, 50, 50)])
    assert image.getcolors() == [(600 * 500, WHITE)]


def test_the_best_label_is_named() -> None:
    assert label_text(detection(0, 0, 1, 1, score=0.987)) == "face 0.99"
    assert label_text(Detection(Box(0, 0, 1, 1), ())) == "?"


def test_a_label_keeps_its_colour_and_white_text_can_be_read_on_it() -> None:
    assert label_colour("face") == label_colour("face")
    assert len({label_colour(f"label {number}") for number in range(50)}) > 40

    def luminance(channel: int) -> float:
        share = channel / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    for number in range(500):
        red, green, blue = map(luminance, label_colour(str(number)))
        contrast = 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)
        assert contrast >= 4.5, "text needs 4.5 : 1 (WCAG AA)"
