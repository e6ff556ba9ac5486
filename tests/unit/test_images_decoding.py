import io
import struct

import pytest
from PIL import Image, ImageOps

from infra.images.decoding import open_image
from infra.images.errors import ImageError
from modules.dummy.module import Dummy
from schemas.errors import ErrorCode
from tests import images

LIMIT = 100_000_000
GOOD = images.good_images()
BAD = {name: known for name, known in images.bad_images().items() if known.data}


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_image_gives_the_same_picture(name: str) -> None:
    known = GOOD[name]
    opened = open_image(known.data, LIMIT)
    assert (opened.header.width_px, opened.header.height_px) == known.size
    image = opened.pixels()
    assert image.mode == "RGB"
    assert image.size == known.size
    (found,) = Dummy().infer([Dummy().preprocess(image)])
    if known.box is None:
        assert found == ()
    else:
        box = found[0].box
        assert (box.x, box.y, box.w, box.h) == pytest.approx(known.box, abs=3)
        assert found[0].labels[0].label == known.label


@pytest.mark.parametrize("name", BAD)
def test_every_kind_of_refusal_has_its_code(name: str) -> None:
    with pytest.raises(ImageError) as refusal:
        open_image(BAD[name].data, LIMIT).pixels()
    assert refusal.value.code == BAD[name].code


def test_the_pixel_limit_is_checked_before_pixels_are_decoded() -> None:
    with pytest.raises(ImageError) as refusal:
        open_image(images.png_header(100, 11), 1099)
    assert refusal.value.code == ErrorCode.IMAGE_TOO_LARGE
    assert "100 x 11" in refusal.value.message
    assert open_image(images.png_header(100, 11), 1100).header.height_px == 11


@pytest.mark.parametrize(
    ("wanted", "decoded"), [(None, 1600), (1000, 1600), (700, 800), (150, 200), (10, 200)]
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_keeps_both_sides(
    wanted: int | None, decoded: int
) -> None:
    opened = open_image(images.jpeg(size=(1600, 1600)), LIMIT)
    before = opened.memory_bytes()
    opened.reduce(wanted)
    assert opened.header.width_px == 1600
    assert opened.memory_bytes() <= before
    assert opened.pixels().size == (decoded, decoded)


def test_the_memory_estimate_covers_what_the_pixels_take() -> None:
    opened = open_image(images.jpeg(), LIMIT)
    assert opened.memory_bytes() >= 2 * len(opened.pixels().tobytes())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_comes_upright(kind: str, orientation: int) -> None:
    opened = open_image(images.turned(orientation, kind), LIMIT)
    image = opened.pixels()
    assert (opened.header.width_px, opened.header.height_px) == image.size == images.SIZE
    ((found,),) = Dummy().infer([Dummy().preprocess(image)])
    assert (found.box.x, found.box.y, found.box.w, found.box.h) == pytest.approx(images.BOX, abs=3)
    assert ImageOps.exif_transpose(image).size == images.SIZE


def test_a_transparent_colour_of_an_rgb_png_is_laid_on_white() -> None:
    image = Image.new("RGB", (8, 8), (0, 255, 0))
    opened = open_image(images.encode(image, "PNG", transparency=(0, 255, 0)), LIMIT)
    assert opened.pixels().getpixel((4, 4)) == (255, 255, 255)


def test_a_tiff_that_claims_too_much_is_refused_before_it_is_opened() -> None:
    numbers = struct.pack("<IHHHIIHHIII", 8, 2, 322, 4, 1, 12_000, 323, 4, 1, 12_000, 0)
    with pytest.raises(ImageError, match="tile"):
        open_image(b"II*\0" + numbers, LIMIT)
    strips = struct.pack("<IHHHIII", 8, 1, 273, 4, 4_000_000, 8, 0)
    with pytest.raises(ImageError, match="4000000 values"):
        open_image(b"II*\0" + strips, LIMIT)
    with pytest.raises(ImageError, match="damaged"):
        open_image(b"II*\0" + struct.pack("<I", 10**9), LIMIT)
    with pytest.raises(ImageError, match="BigTIFF"):
        open_image(b"II+\0" + bytes(16), LIMIT)


def test_damaged_exif_does_not_make_the_pixels_unreadable() -> None:
    buffer = io.BytesIO()
    images.picture().save(buffer, "JPEG", exif=b"Exif\0\0garbage that is no TIFF header at all")
    assert open_image(buffer.getvalue(), LIMIT).pixels().size == images.SIZE


def test_a_memoryview_is_decoded_without_help() -> None:
    assert open_image(memoryview(images.jpeg()), LIMIT).header.format == "JPEG"


def test_our_limit_replaces_the_one_of_pillow() -> None:
    assert Image.MAX_IMAGE_PIXELS is None
