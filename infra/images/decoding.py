"""Bytes to pixels: upright RGB, at the smallest scale the module can use, within limits."""

import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from infra.images.errors import ImageError
from infra.images.sniffing import DECODED, kind_of
from infra.images.tiff import check_tiff
from schemas.errors import ErrorCode

if TYPE_CHECKING:
    from typing_extensions import Buffer

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What Pillow may open: a parser that is not needed is one that cannot be attacked."""

# Our own limit is checked before pixels are decoded; Pillow's would warn at a quarter of it.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False

# Peak memory a pixel while decoding and turning, measured on images of 16 megapixels: what Pillow holds,
# its decoder's own buffers, and a copy with transparency laid on white.
_BYTES_PER_PIXEL = {"JPEG": 8, "MPO": 8, "WEBP": 24, "AVIF": 12}
_OTHERS_BYTES_PER_PIXEL = 18
_PROGRESSIVE_BYTES_PER_PIXEL = 6
"""A progressive JPEG keeps the coefficients of the whole image, whatever the scale."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright."""

_QUARTER_TURNS = frozenset(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))
_METADATA = ("exif", "xmp", "XML:com.adobe.xmp")

_WHITE = (255, 255, 255)


class ImageHeader(msgspec.Struct, frozen=True):
    """What the file says of itself, upright, before any pixel is decoded."""

    format: str
    width_px: int
    height_px: int


class OpenImage:
    """An image whose header was read and found acceptable."""

    def __init__(self, image: Image.Image, header: ImageHeader, turn: Image.Transpose | None) -> None:
        self._image = image
        self.header = header
        self.turn = turn
        """What makes the decoded pixels upright."""

    @property
    def is_plain_jpeg(self) -> bool:
        """A single JPEG image in YCbCr; decoders differ in how they read grey, CMYK and RGB ones."""
        image = self._image
        return image.format == "JPEG" and image.mode == "RGB" and image.info.get("adobe_transform") != 0

    def memory_bytes(self) -> int:
        """An estimate of what decoding takes at its peak."""
        image = self._image
        each = _BYTES_PER_PIXEL.get(self.header.format, _OTHERS_BYTES_PER_PIXEL)
        needed = image.width * image.height * each
        if image.info.get("progressive"):
            needed += self.header.width_px * self.header.height_px * _PROGRESSIVE_BYTES_PER_PIXEL
        return needed

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
            image = _to_rgb(self._image)
            return image if self.turn is None else _turned(image, self.turn)
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
    check_tiff(view)
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
    turn = _turn(image)
    if turn in _QUARTER_TURNS:
        width, height = height, width
    return OpenImage(image, ImageHeader(image.format or "", width, height), turn)


def _verify_checksums(view: memoryview) -> None:
    # Decoding skips the checksums of a PNG's pixels, and would answer for a damaged file with noise.
    try:
        Image.open(io.BytesIO(view), formats=["PNG"]).verify()
    except Exception as error:  # noqa: BLE001 - as above
        raise ImageError(ErrorCode.IMAGE_CORRUPT, f"the image is damaged: {error}") from None


def _turned(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    upright = image.transpose(turn)
    for name in _METADATA:
        upright.info.pop(name, None)  # or whoever asks for the orientation turns it again
    return upright


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright; Pillow turns TIFF by itself."""
    if image.format == "TIFF":
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged metadata does not make the pixels unreadable
        return None


def _not_decodable(head: bytes) -> ImageError:
    kind = kind_of(head)
    if kind is None:
        return ImageError(ErrorCode.IMAGE_NOT_RECOGNIZED, "the bytes are not an image of any known kind")
    if kind in DECODED:
        return ImageError(ErrorCode.IMAGE_CORRUPT, f"the {kind} header is damaged")
    known = ", ".join(sorted(DECODED))
    return ImageError(ErrorCode.IMAGE_FORMAT_UNSUPPORTED, f"this is a {kind} file; decoded are {known}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode == "RGB":
        return image
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
