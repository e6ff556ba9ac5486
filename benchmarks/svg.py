"""Small plots as SVG text: the same figures give the same file, so that a test can compare them."""

from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

import msgspec

WIDTH = 720
_LABELS, _VALUES = 250, 70
"""Room for labels at the left and values at the right."""
_ROW, _BAR, _HEAD = 22, 14, 34
_OURS, _OTHERS, _MARK, _TEXT = "#1f6fb2", "#b8bec6", "#b2521f", "#222"


class Bar(msgspec.Struct, frozen=True):
    """One bar; `ours` are drawn in another colour."""

    label: str
    value: float
    ours: bool = False


class Panel(msgspec.Struct, frozen=True):
    """Bars under one another, and a value to compare them with, drawn as a dashed line."""

    title: str
    bars: tuple[Bar, ...]
    mark: float | None = None


def bar_chart(panels: Sequence[Panel]) -> str:
    """Panels below one another, each with a scale of its own."""
    parts, top = list[str](), 0
    for panel in panels:
        parts += _bars(panel, top)
        top += _HEAD + _ROW * len(panel.bars) + 10
    return _document(top, parts)


def line_chart(
    title: str, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], height: int = 220
) -> str:
    """Lines over a common x axis from 0, with a y axis from 0, each named at its end."""
    right = max(x for _, points in lines for x, _ in points)
    highest = max(y for _, points in lines for _, y in points)
    floor, across, up = height - 24, WIDTH - 60 - _VALUES - 40, height - 24 - _HEAD
    parts = [_text(8, 18, title, size=13)]
    for share in (0.0, 0.5, 1.0):
        y = floor - up * share
        parts.append(f'<line x1="60" x2="{60 + across}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(54, y + 4, f"{highest * share:,.0f}", anchor="end"))
        parts.append(_text(60 + across * share, floor + 16, f"{right * share:,.0f}", anchor="middle"))
    for name, points in lines:
        path = " ".join(f"{60 + across * x / right:.1f},{floor - up * y / highest:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_OURS}" stroke-width="1.5"/>')
        parts.append(_text(66 + across, floor - up * points[-1][1] / highest + 4, name))
    return _document(height, parts)


def _bars(panel: Panel, top: int) -> Iterator[str]:
    yield _text(8, top + 20, panel.title, size=13)
    longest = max([bar.value for bar in panel.bars] + [panel.mark or 0.0]) or 1.0
    scale = (WIDTH - _LABELS - _VALUES) / longest
    for number, bar in enumerate(panel.bars):
        y = top + _HEAD + number * _ROW
        width = max(1.0, bar.value * scale)
        colour = _OURS if bar.ours else _OTHERS
        yield _text(_LABELS - 8, y + 11, bar.label, anchor="end")
        yield f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
        yield _text(_LABELS + width + 6, y + 11, _number(bar.value))
    if panel.mark is not None:
        x, y, height = _LABELS + panel.mark * scale, top + _HEAD - 4, len(panel.bars) * _ROW
        place = f'x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + height}"'
        yield f'<line {place} stroke="{_MARK}" stroke-dasharray="4 3"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _document(height: int, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" fill="{_TEXT}">'
    )
    return "\n".join((head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>\n"))
