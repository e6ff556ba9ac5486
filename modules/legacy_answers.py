"""The shapes in which modules of the old server answer, read into detections."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modules.contract import Box, Detection, Label
from modules.errors import ModuleOutputInvalid

ROUNDING = 1e-4
"""A softmax in single precision may miss [0, 1] by less than this."""

SHAPES = "[(x, y, w, h), {label: score}] or {'position': {x, y, w, h}, 'label': [{'description', 'score'}]}"


def read_answer(answer: Any, module: str) -> tuple[Detection, ...]:
    """Reads what `inference_by_path` returned; the labels of a box come best first.

    Raises:
        ModuleOutputInvalid: names the module, the entry and what is wrong with it.
    """
    if not isinstance(answer, list | tuple):
        raise ModuleOutputInvalid(
            f"module {module!r} answered {_shown(answer)}; it must answer a list of {SHAPES}"
        )
    detections = []
    for index, entry in enumerate(answer):
        try:
            detections.append(_detection(entry))
        except ValueError as error:
            raise ModuleOutputInvalid(f"module {module!r}, entry {index} of its answer: {error}") from None
    return tuple(detections)


def _detection(entry: Any) -> Detection:
    if isinstance(entry, Mapping) and {"position", "label"} <= entry.keys():
        position, labels = entry["position"], entry["label"]
    elif isinstance(entry, list | tuple) and len(entry) == 2:
        position, labels = entry
    else:
        raise ValueError(f"{_shown(entry)} is not {SHAPES}")
    found = [_label(name, score) for name, score in _pairs(labels)]
    return Detection(_box(position), tuple(sorted(found, key=lambda label: -label.score)))


def _box(position: Any) -> Box:
    if isinstance(position, Mapping) and {"x", "y", "w", "h"} <= position.keys():
        sides: Sequence[Any] = [position[side] for side in "xywh"]
    else:
        sides = _listed(position)
        if len(sides) != 4:
            raise ValueError(f"the position {_shown(position)} is not (x, y, w, h)")
    x, y, w, h = (
        _number(side, f"`{name}` of the position") for side, name in zip(sides, "xywh", strict=True)
    )
    if w < 0 or h < 0:
        raise ValueError(f"the position has width {w} and height {h}; neither may be negative")
    return Box(x, y, w, h)


def _pairs(labels: Any) -> list[tuple[Any, Any]]:
    """(label, score) of either shape; one description may also stand without a list around it."""
    listed = labels if isinstance(labels, list | tuple) else [labels]
    if all(isinstance(one, Mapping) and {"description", "score"} <= one.keys() for one in listed):
        return [(one["description"], one["score"]) for one in listed]
    if isinstance(labels, Mapping):
        return list(labels.items())
    raise ValueError(f"the labels {_shown(labels)} are not {{label: score}} or [{{'description', 'score'}}]")


def _label(name: Any, score: Any) -> Label:
    text = str(_plain(name))
    value = _number(score, f"the score of {text!r}")
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise ValueError(f"the score of {text!r} is {value}; scores lie in [0, 1]")
    return Label(text, min(max(value, 0.0), 1.0))


def _number(value: Any, what: str) -> float:
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise ValueError(f"{what} is {_shown(value)}, not a number")
    if not math.isfinite(plain):
        raise ValueError(f"{what} is {plain}, not a finite number")
    return float(plain)


def _plain(value: Any) -> Any:
    """A NumPy scalar, or an array or tensor of one element on any device, as Python's own number."""
    try:
        return value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):
        raise ValueError(f"{_shown(value)} holds more than one number") from None


def _listed(position: Any) -> Sequence[Any]:
    values = position.tolist() if hasattr(position, "tolist") else position
    return values if isinstance(values, list | tuple) else ()


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '…'}"
