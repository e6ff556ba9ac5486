"""Batch size against images a second and milliseconds, as a small SVG."""

from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from consumers.analyzer.tuning.figures import Batch

_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 40
_TICKS = 4


def batch_plot(title: str, batches: Sequence[Batch], chosen: int) -> str:
    """Two panels side by side, images/s and ms a batch, with the chosen size marked."""
    panels = (
        _panel(0, "images/s", batches, lambda batch: batch.images_per_s, chosen, "#1f6fb2"),
        _panel(_WIDTH, "ms a batch", batches, lambda batch: batch.ms, chosen, "#b2521f"),
    )
    width, height = 2 * _WIDTH, _HEIGHT + 24
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            '<g font-family="sans-serif" font-size="11" fill="#222">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{_LEFT}" y="18" font-size="13">{escape(title)}</text>',
            '<g transform="translate(0 24)">',
            *panels,
            "</g></g>",
            "</svg>\n",
        )
    )


def _panel(
    offset: int,
    name: str,
    batches: Sequence[Batch],
    value: Callable[[Batch], float],
    chosen: int,
    colour: str,
) -> str:
    top = _round_up(max(value(batch) for batch in batches))
    points = [
        (_x(number, len(batches)), _y(value(batch), top), batch) for number, batch in enumerate(batches)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    lines = [f'<g transform="translate({offset} 0)">', *_grid(name, top)]
    lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for x, y, batch in points:
        radius = 6 if batch.size == chosen else 3
        tip = f"batch {batch.size}: {_readable(value(batch))} {name}"
        lines.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{tip}</title></circle>'
        )
        lines.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{batch.size}</text>'
        )
    return "\n".join((*lines, "</g>"))


def _grid(name: str, top: float) -> list[str]:
    lines = [f'<text x="{_LEFT}" y="{_TOP - 14}">{name}</text>']
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        y = _y(value, top)
        lines.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_readable(value)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">images a batch</text>')
    return lines


def _x(number: int, count: int) -> float:
    """Sizes double from one to the next, so they stand at equal distances."""
    inner = _WIDTH - _LEFT - _RIGHT
    return _LEFT + inner * (number + 0.5) / count


def _y(value: float, top: float) -> float:
    inner = _HEIGHT - _TOP - _BOTTOM
    return _TOP + inner * (1 - value / top)


def _readable(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten, so that the axis has round numbers."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value)
