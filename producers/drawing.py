"""Pictures with their detections drawn on: a box, a label and a score each, readable at any size."""

import colorsys
import hashlib
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from producers.output import best_label
from schemas.messages import Box, Detection

LEAST_SIDE_PX = 480
"""A smaller picture is enlarged by a whole number, or its labels would cover it."""

_FONT_SHARE = 1 / 36
_LEAST_FONT_PX = 13
_LINE_SHARE = 1 / 250
_PADDING_SHARE = 0.25


def annotate(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """A copy with the detections drawn on.

    Args:
        image: upright (EXIF orientation applied), in its original size.
        detections: boxes in pixels of `image`; parts outside of it are cut off.
    """
    factor = max(1, math.ceil(LEAST_SIDE_PX / max(image.size)))
    size = (image.width * factor, image.height * factor)
    picture = image.convert("RGB").resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    line_px = max(2, round(max(size) * _LINE_SHARE))
    font = ImageFont.load_default(max(_LEAST_FONT_PX, max(size) * _FONT_SHARE))
    # All boxes, then all labels: no line crosses a text. The surest come last and cover the others.
    ordered = sorted(detections, key=_best_score)
    for detection in ordered:
        draw.rectangle(_corners(detection.box, factor, size), outline=_colour(detection), width=line_px)
    for detection in ordered:
        _draw_label(draw, detection, _corners(detection.box, factor, size), font)
    return picture


def label_text(detection: Detection) -> str:
    """The best label and its score."""
    best = best_label(detection)
    return "?" if best is None else f"{best.label} {best.score:.2f}"


def label_colour(label: str) -> tuple[int, int, int]:
    """A label's colour: always the same, and dark enough for white text."""
    hue = int.from_bytes(hashlib.sha256(label.encode(errors="replace")).digest()[:2]) / 2**16
    red, green, blue = colorsys.hls_to_rgb(hue, 0.27, 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    detection: Detection,
    corners: tuple[float, float, float, float],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Writes above the box, or inside it where there is no room above; never outside the picture."""
    text = label_text(detection)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    padding = (bottom - top) * _PADDING_SHARE
    width, height = right - left + 2 * padding, bottom - top + 2 * padding
    picture_width, picture_height = draw.im.size
    x = max(0.0, min(corners[0], picture_width - width))
    y = corners[1] - height if corners[1] >= height else min(corners[1], picture_height - height)
    draw.rectangle((x, y, x + width, y + height), fill=_colour(detection))
    draw.text((x + padding - left, y + padding - top), text, fill=(255, 255, 255), font=font)


def _corners(box: Box, factor: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom on the picture, in this order even for a box that lies outside."""
    left = min(max(box.x * factor, 0), size[0] - 1)
    top = min(max(box.y * factor, 0), size[1] - 1)
    right = min(max((box.x + box.w) * factor, left), size[0] - 1)
    bottom = min(max((box.y + box.h) * factor, top), size[1] - 1)
    return left, top, right, bottom


def _best_score(detection: Detection) -> float:
    best = best_label(detection)
    return 0.0 if best is None else best.score


def _colour(detection: Detection) -> tuple[int, int, int]:
    best = best_label(detection)
    return label_colour("" if best is None else best.label)
