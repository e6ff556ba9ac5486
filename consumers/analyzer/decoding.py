"""Bytes to pixels: upright RGB, at the smallest scale the module can use, within limits."""

import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from consumers.analyzer.errors import ImageError
from consumers.analyzer.sniffing import DECODED, kind_of
from schemas.errors import ErrorCode

if TYPE_CHECKING:
    from typing_extensions import Buffer

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What Pillow may open: a parser that is not needed is one that cannot be attacked."""

# Our own limit is checked before pixels are decoded; Pillow's would warn at a quarter of it.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False

_BYTES_PER_PIXEL = 4
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = frozenset({5, 6, 7, 8})
_WHITE = (255, 255, 255)


class ImageHeader(msgspec.Struct, frozen=True):
    """What the file says of itself, upright, before any pixel is decoded."""

    format: str
    width_px: int
    height_px: int


class OpenImage:
    """An image whose header was read and found acceptable."""

    def __init__(self, image: Image.Image, header: ImageHeader) -> None:
        self._image = image
        self.header = header

    def memory_bytes(self) -> int:
        """An upper estimate of what decoding takes: the pixels, and a copy to turn or convert them."""
        return 2 * self._image.width * self._image.height * _BYTES_PER_PIXEL

    def reduce(self, decode_size_px: int | None) -> None:
        """Asks a JPEG for 1/2, 1/4 or 1/8 of its size while both sides keep `decode_size_px`."""
        if decode_size_px is not None and self._image.format in ("JPEG", "MPO"):
            self._image.draft(None, (decode_size_px, decode_size_px))

    def pixels(self) -> Image.Image:
        """Decodes: the first frame, upright, transparency laid on white, in RGB.

        Raises:
            ImageError: the file is damaged, or holds pixels of a kind that has no place in RGB.
        """
        try:
            self._image.load()
            return _to_rgb(ImageOps.exif_transpose(self._image))
        except ImageError:
            raise
        except MemoryError:
            raise ImageError(ErrorCode.IMAGE_TOO_LARGE, "there is no memory for the image") from None
        except Exception as error:  # noqa: BLE001 - Pillow's decoders raise whatever the bytes lead them to
            raise ImageError(ErrorCode.IMAGE_CORRUPT, f"the image is damaged: {error}") from None


def open_image(raw: "Buffer", max_pixels: int) -> OpenImage:
    """Reads an image's header.

    Raises:
        ImageError: the bytes are no image, one of a kind not decoded, damaged, or larger than `max_pixels`.
    """
    view = memoryview(raw)
    try:
        image = Image.open(io.BytesIO(view), formats=FORMATS)
    except UnidentifiedImageError:
        raise _not_decodable(bytes(view[:1024])) from None
    except Exception as error:  # noqa: BLE001 - as above
        raise ImageError(ErrorCode.IMAGE_CORRUPT, f"the image's header is damaged: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            ErrorCode.IMAGE_TOO_LARGE,
            f"the image has {width} x {height} pixels; the limit is {max_pixels} (ANALYZER_MAX_IMAGE_PIXELS)",
        )
    if image.format == "PNG":
        _verify_checksums(view)
    if _orientation(image) in _QUARTER_TURNS:
        width, height = height, width
    return OpenImage(image, ImageHeader(image.format or "", width, height))


def _verify_checksums(view: memoryview) -> None:
    # Decoding skips the checksums of a PNG's pixels, and would answer for a damaged file with noise.
    try:
        Image.open(io.BytesIO(view), formats=["PNG"]).verify()
    except Exception as error:  # noqa: BLE001 - as above
        raise ImageError(ErrorCode.IMAGE_CORRUPT, f"the image is damaged: {error}") from None


def _orientation(image: Image.Image) -> int | None:
    try:
        orientation: int | None = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged metadata does not make the pixels unreadable
        return None
    return orientation


def _not_decodable(head: bytes) -> ImageError:
    kind = kind_of(head)
    if kind is None:
        return ImageError(ErrorCode.IMAGE_NOT_RECOGNIZED, "the bytes are not an image of any known kind")
    if kind in DECODED:
        return ImageError(ErrorCode.IMAGE_CORRUPT, f"the {kind} header is damaged")
    known = ", ".join(sorted(DECODED))
    return ImageError(ErrorCode.IMAGE_FORMAT_UNSUPPORTED, f"this is a {kind} file; decoded are {known}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "F":
        # Neither 0 to 1 nor 0 to 255 is sure, and convert() would clip.
        raise _no_place_in_rgb(image)
    try:
        return image.convert("RGB")
    except ValueError:
        raise _no_place_in_rgb(image) from None


def _no_place_in_rgb(image: Image.Image) -> ImageError:
    return ImageError(
        ErrorCode.IMAGE_FORMAT_UNSUPPORTED, f"pixels of mode {image.mode!r} have no place in RGB"
    )


def _on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, _WHITE)
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _from_16_bits(image: Image.Image) -> Image.Image:
    # convert() would clip: all above 255 of 65,535 would turn white.
    eight_bits = (np.asarray(image).clip(0, 65_535).astype(np.uint16) >> 8).astype(np.uint8)
    return Image.fromarray(eight_bits).convert("RGB")
