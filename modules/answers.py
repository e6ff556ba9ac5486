"""What `infer` returned: does it keep the contract, and do two answers say the same?"""

import math
from collections.abc import Sequence
from typing import Any

from modules.contract import Box, Detection, Label
from modules.errors import ModuleOutputInvalid

Answer = tuple[Detection, ...]

BOX_TOLERANCE_PX = 1.0
SCORE_TOLERANCE = 0.02
"""Batches of another size may round differently in the networks; more than this is another answer."""


def read_answers(answers: Any, count: int) -> list[Answer]:
    """The answers to a batch of `count` images, checked against the contract.

    Raises:
        ModuleOutputInvalid: says which image's which detection breaks which rule.
    """
    if not isinstance(answers, Sequence) or isinstance(answers, str | bytes):
        raise ModuleOutputInvalid(f"infer returned {type(answers).__name__}, not a list of answers")
    if len(answers) != count:
        raise ModuleOutputInvalid(f"infer returned {len(answers)} answers to {count} images")
    return [_read_answer(answer, f"image {index} of the batch") for index, answer in enumerate(answers)]


def alike(one: Answer, other: Answer) -> bool:
    """Whether two answers hold the same detections in any order, apart from rounding."""
    rest = list(other)
    for detection in one:
        match = next((found for found in rest if _same(detection, found)), None)
        if match is None:
            return False
        rest.remove(match)
    return not rest


def _read_answer(answer: Any, where: str) -> Answer:
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise ModuleOutputInvalid(f"{where}: the answer is {type(answer).__name__}, not a list of detections")
    for index, detection in enumerate(answer):
        _check_detection(detection, f"{where}, detection {index}")
    return tuple(answer)


def _check_detection(detection: Any, where: str) -> None:
    if not isinstance(detection, Detection) or not isinstance(detection.box, Box):
        raise ModuleOutputInvalid(f"{where} is {type(detection).__name__}, not a Detection with a Box")
    box = detection.box
    sides = (box.x, box.y, box.w, box.h)
    if not all(_is_finite(side) for side in sides):
        raise ModuleOutputInvalid(f"{where}: {box} holds something that is not a finite Python number")
    if box.w < 0 or box.h < 0:
        raise ModuleOutputInvalid(f"{where}: {box} has a negative width or height")
    if not isinstance(detection.labels, list | tuple):
        raise ModuleOutputInvalid(f"{where}: its labels are {type(detection.labels).__name__}, not a tuple")
    for label in detection.labels:
        _check_label(label, where)


def _check_label(label: Any, where: str) -> None:
    if not isinstance(label, Label) or not isinstance(label.label, str):
        raise ModuleOutputInvalid(f"{where}: {label!r} is not a Label with a string")
    if not _is_finite(label.score) or not 0 <= label.score <= 1:
        raise ModuleOutputInvalid(
            f"{where}: the score of {label.label!r} is {label.score!r}; scores are Python numbers in [0, 1]"
        )


def _is_finite(value: Any) -> bool:
    """NumPy scalars and tensors do not count, but for float64, which is a float: JSON has no others."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _same(one: Detection, other: Detection) -> bool:
    sides = zip(_sides(one.box), _sides(other.box), strict=True)
    scores = {label.label: label.score for label in one.labels}
    others = {label.label: label.score for label in other.labels}
    return (
        all(abs(a - b) <= BOX_TOLERANCE_PX for a, b in sides)
        and scores.keys() == others.keys()
        and all(abs(scores[name] - others[name]) <= SCORE_TOLERANCE for name in scores)
    )


def _sides(box: Box) -> tuple[float, float, float, float]:
    return box.x, box.y, box.w, box.h
