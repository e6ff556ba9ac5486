"""What a TIFF claims, checked before Pillow believes it.

A small file can name a tile far larger than its image, or millions of strips, and Pillow allocates for both
before anyone can look at the image's size: 560 kB took 553 MB, 16 MB took 981 MB.
"""

import struct

from infra.images.errors import ImageError
from schemas.errors import ErrorCode

MAX_TILE_PIXELS = 2**24
MAX_NUMBERS = 2**16
"""Values that one tag may have, but for tags of bytes (colour profiles and the like)."""

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_BIG_TIFF = (b"II+\0", b"MM\0+")
_BYTE_TYPES = frozenset({1, 2, 6, 7})
_SHORT = 3
_TILE_WIDTH, _TILE_LENGTH = 322, 323


def check_tiff(view: memoryview) -> None:
    """Refuses a TIFF whose first directory asks for too much; other files pass unread.

    Raises:
        ImageError: a tile or a list of numbers is too large, or the directory is damaged.
    """
    magic = bytes(view[:4])
    if magic in _BIG_TIFF:
        raise ImageError(ErrorCode.IMAGE_FORMAT_UNSUPPORTED, "this is a BigTIFF file, which is not decoded")
    if magic in _ORDERS:
        try:
            _check_directory(view, _ORDERS[magic])
        except struct.error:
            raise ImageError(ErrorCode.IMAGE_CORRUPT, "the TIFF's directory is damaged") from None


def _check_directory(view: memoryview, order: str) -> None:
    (start,) = struct.unpack_from(f"{order}I", view, 4)
    (entries,) = struct.unpack_from(f"{order}H", view, start)
    tile = {_TILE_WIDTH: 1, _TILE_LENGTH: 1}
    for number in range(entries):
        at = start + 2 + 12 * number
        tag, kind, count = struct.unpack_from(f"{order}HHI", view, at)
        if count > MAX_NUMBERS and kind not in _BYTE_TYPES:
            raise ImageError(
                ErrorCode.IMAGE_TOO_LARGE,
                f"tag {tag} of the TIFF has {count} values; the limit is {MAX_NUMBERS}",
            )
        if tag in tile:
            (tile[tag],) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", view, at + 8)
    pixels = tile[_TILE_WIDTH] * tile[_TILE_LENGTH]
    if pixels > MAX_TILE_PIXELS:
        raise ImageError(
            ErrorCode.IMAGE_TOO_LARGE,
            f"a tile of the TIFF has {pixels} pixels; the limit is {MAX_TILE_PIXELS}",
        )
