"""JPEG files as tensors, here on the CPU: the same pixels as Pillow's, or left to Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from consumers.analyzer.gpu_decoding import MOST_PIXELS, TensorDecoder
from infra.images.decoding import open_image
from infra.images.errors import ImageError
from tests import images

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")

LIMIT = 100_000_000
GOOD = images.good_images()
BAD = {name: known for name, known in images.bad_images().items() if known.data}
DECODED = {"jpeg", "progressive-jpeg", *(f"exif-{orientation}" for orientation in range(1, 9))}
MOST_DIFFERENT = 2
"""Levels of 255; another release of libjpeg may round otherwise."""


def decode(data: bytes) -> torch.Tensor | None:
    return TensorDecoder("cpu").decode(open_image(data, LIMIT), data)


def photo() -> Image.Image:
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
        return image.convert("RGB")


def assert_as_pillow_has_it(found: torch.Tensor | None, data: bytes) -> None:
    assert found is not None
    expected = np.asarray(open_image(data, LIMIT).pixels()).astype(int)
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() <= MOST_DIFFERENT


@pytest.mark.parametrize("name", GOOD)
def test_each_kind_of_image_is_decoded_as_by_pillow_or_left_to_it(name: str) -> None:
    data = GOOD[name].data
    found = decode(data)
    assert (found is not None) == (name in DECODED)
    if found is not None:
        assert_as_pillow_has_it(found, data)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_photograph(subsampling: str) -> None:
    photograph = photo().crop((0, 0, 333, 411))
    data = images.encode(photograph, "JPEG", quality=90, subsampling=subsampling)
    assert_as_pillow_has_it(decode(data), data)


@pytest.mark.parametrize("name", BAD)
def test_what_pillow_refuses_is_left_to_it(name: str) -> None:
    assert decode_if_opened(BAD[name].data) is None


def test_damage_that_pillow_finds_is_left_to_it() -> None:
    whole = images.encode(photo().resize((64, 64)), "JPEG", quality=90)
    broken = [damaged(whole, place) for place in range(0, len(whole) - 60, 20)]
    refused = [data for data in broken if is_refused(data)]

    assert 5 < len(refused) < len(broken)
    assert [found for found in map(decode_if_opened, refused) if found is not None] == []


def damaged(whole: bytes, place: int) -> bytes:
    return whole[:place] + b"\xff\xc4" * 20 + whole[place + 40 :]


def is_refused(data: bytes) -> bool:
    try:
        open_image(data, LIMIT).pixels()
    except ImageError:
        return True
    return False


def decode_if_opened(data: bytes) -> torch.Tensor | None:
    try:
        return decode(data)
    except ImageError:
        return None


def test_colours_that_decoders_read_differently_are_left_to_pillow() -> None:
    buffer = io.BytesIO()
    images.picture().save(buffer, "JPEG", keep_rgb=True)
    assert decode(buffer.getvalue()) is None


def test_a_file_that_does_not_end_is_left_to_pillow() -> None:
    assert decode(images.jpeg()[:-2] + b"\0\0") is None


def test_an_image_too_large_for_the_device_is_left_to_pillow() -> None:
    side = int(MOST_PIXELS**0.5) + 1
    data = images.encode(Image.new("RGB", (side, side)), "JPEG")
    assert decode(data) is None


def test_it_comes_at_full_size_also_where_pillow_would_reduce_it() -> None:
    data = images.jpeg(size=(1600, 1600))
    opened = open_image(data, LIMIT)
    opened.reduce(100)
    found = TensorDecoder("cpu").decode(opened, memoryview(data))
    assert found is not None
    assert found.shape == (3, 1600, 1600)
