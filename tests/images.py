"""Images whose answers are known: what the `dummy` module must find in them, or the code of the refusal."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from schemas.errors import ErrorCode

SIZE = (200, 150)
BOX = (40, 30, 80, 60)
"""Left, top, width and height of the rectangle in `picture()`."""

_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Known:
    """A file, and what the service must say of it."""

    data: bytes
    box: tuple[int, int, int, int] | None = BOX
    label: str = "red"
    size: tuple[int, int] = SIZE
    code: ErrorCode | None = None


def picture(
    size: tuple[int, int] = SIZE,
    box: tuple[int, int, int, int] = BOX,
    colour: tuple[int, int, int] = (255, 0, 0),
) -> Image.Image:
    """A rectangle on white."""
    image = Image.new("RGB", size, (255, 255, 255))
    left, top, width, height = box
    ImageDraw.Draw(image).rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(**given: Any) -> bytes:
    """`picture` as a JPEG."""
    return encode(picture(**given), "JPEG", quality=95)


def good_images() -> dict[str, Known]:
    """Every kind of file that is decoded, each with its answer."""
    plain, grey = picture(), picture(colour=(128, 128, 128))
    known = {
        "jpeg": Known(encode(plain, "JPEG", quality=95)),
        "progressive-jpeg": Known(encode(plain, "JPEG", quality=95, progressive=True)),
        "grey-jpeg": Known(encode(grey.convert("L"), "JPEG", quality=95), label="grey"),
        "cmyk-jpeg": Known(encode(plain.convert("CMYK"), "JPEG", quality=95)),
        "png": Known(encode(plain, "PNG")),
        "interlaced-png": Known(encode(plain.quantize(), "PNG", interlace=1)),
        "16-bit-grey-png": Known(encode(_grey_16_bits(), "PNG"), label="black"),
        "16-bit-rgb-png": Known(_rgb_16_bits_png()),
        "palette-transparency": Known(_palette_transparency()),
        "rgba-png": Known(encode(_see_through(), "PNG")),
        "1-bit": Known(encode(_two_colours(), "PNG"), label="black"),
        "webp": Known(encode(plain, "WEBP", quality=95)),
        "gif": Known(encode(plain, "GIF")),
        "animated-gif": Known(_animated_gif()),
        "bmp": Known(encode(plain, "BMP")),
        "tiff": Known(encode(plain, "TIFF")),
        "avif": Known(encode(plain, "AVIF", quality=95)),
        "mpo": Known(encode(plain, "MPO", save_all=True, append_images=[plain], quality=95)),
        "nothing-in-it": Known(encode(Image.new("RGB", SIZE, (9, 9, 9)), "PNG"), box=None),
    }
    for orientation in range(1, 9):
        known[f"exif-{orientation}"] = Known(turned(orientation))
    return known


def bad_images() -> dict[str, Known]:
    """Every kind of file that is refused, each with its code."""
    whole = jpeg()
    return {
        "zero-bytes": refused(b"", ErrorCode.OBJECT_EMPTY),
        "text": refused(b"not an image at all\n" * 20, ErrorCode.IMAGE_NOT_RECOGNIZED),
        "html": refused(b"<!doctype html><html><body>404</body></html>", ErrorCode.IMAGE_NOT_RECOGNIZED),
        "random": refused(bytes(range(256)) * 4, ErrorCode.IMAGE_NOT_RECOGNIZED),
        "svg": refused(
            b'<?xml version="1.0"?>\n<svg width="9"/>',
            ErrorCode.IMAGE_FORMAT_UNSUPPORTED,
        ),
        "pdf": refused(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", ErrorCode.IMAGE_FORMAT_UNSUPPORTED),
        "eps": refused(encode(picture(), "EPS"), ErrorCode.IMAGE_FORMAT_UNSUPPORTED),
        "heif": refused(b"\0\0\0\x18ftypheic" + bytes(64), ErrorCode.IMAGE_FORMAT_UNSUPPORTED),
        "jpeg-2000": refused(encode(picture(), "JPEG2000"), ErrorCode.IMAGE_FORMAT_UNSUPPORTED),
        "floating-point-tiff": refused(
            encode(Image.new("F", (8, 8), 0.5), "TIFF"), ErrorCode.IMAGE_FORMAT_UNSUPPORTED
        ),
        "truncated-jpeg": refused(whole[: len(whole) // 2], ErrorCode.IMAGE_CORRUPT),
        "jpeg-of-3-bytes": refused(whole[:3], ErrorCode.IMAGE_CORRUPT),
        "bad-crc-png": refused(_bad_crc_png(), ErrorCode.IMAGE_CORRUPT),
        "bad-header-crc-png": refused(_bad_header_crc_png(), ErrorCode.IMAGE_CORRUPT),
        "truncated-png": refused(encode(picture(), "PNG")[:-40], ErrorCode.IMAGE_CORRUPT),
        "decompression-bomb": refused(
            encode(Image.new("1", (16_000, 16_000)), "PNG"), ErrorCode.IMAGE_TOO_LARGE
        ),
        "200-megapixel-header": refused(png_header(20_000, 10_000), ErrorCode.IMAGE_TOO_LARGE),
        "largest-header": refused(png_header(2**31 - 1, 2**31 - 1), ErrorCode.IMAGE_TOO_LARGE),
    }


def refused(data: bytes, code: ErrorCode) -> Known:
    """A file that must be answered with this code."""
    return Known(data, box=None, code=code)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """`picture` stored in one of the eight EXIF orientations."""
    # Each orientation's inverse, so that the upright image is `picture()` again.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = picture()
    if orientation in undo:
        image = image.transpose(undo[orientation])
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return encode(image, kind, quality=95, exif=exif)


def _two_colours() -> Image.Image:
    return picture().convert("L").point(lambda value: 255 * (value > 200), "1")


def _grey_16_bits() -> Image.Image:
    pixels = np.full((SIZE[1], SIZE[0]), 60_000, np.uint16)
    left, top, width, height = BOX
    pixels[top : top + height, left : left + width] = 1_000
    return Image.fromarray(pixels)


def _rgb_16_bits_png() -> bytes:
    rows = bytearray()
    source = picture()
    for y in range(SIZE[1]):
        rows.append(0)
        for x in range(SIZE[0]):
            pixel = source.getpixel((x, y))
            assert isinstance(pixel, tuple)
            rows += struct.pack(">HHH", *(channel * 257 for channel in pixel))
    header = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    body = _chunk(b"IDAT", zlib.compress(bytes(rows)))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + body + _chunk(b"IEND", b"")


def _see_through() -> Image.Image:
    """The rectangle on a background of transparent green: laid on white, nothing of the green is left."""
    image = Image.new("RGBA", SIZE, (0, 255, 0, 0))
    left, top, width, height = BOX
    image.paste((255, 0, 0, 255), (left, top, left + width, top + height))
    return image


def _palette_transparency() -> bytes:
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 255, 0, 255, 0, 0])
    left, top, width, height = BOX
    image.paste(1, (left, top, left + width, top + height))
    return encode(image, "PNG", transparency=0)


def _animated_gif() -> bytes:
    others = [picture(box=(0, 0, 20, 20), colour=(0, 0, 255)) for _ in range(2)]
    return encode(picture(), "GIF", save_all=True, append_images=others)


def _bad_crc_png() -> bytes:
    data = bytearray(encode(picture(), "PNG"))
    end_of_idat = data.index(b"IEND") - 8
    data[end_of_idat] ^= 0xFF
    return bytes(data)


def _bad_header_crc_png() -> bytes:
    data = bytearray(encode(picture(), "PNG"))
    data[29] ^= 0xFF
    return bytes(data)
