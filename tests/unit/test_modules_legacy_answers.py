"""Answers of legacy modules that are refused, each with what is wrong."""

import math
from typing import Any

import pytest

from modules.errors import ModuleOutputInvalid
from modules.legacy_answers import read_answer

BOX = (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "answered NoneType None"),
        ("cat", "answered str 'cat'"),
        ({"cat": 0.5}, "must answer a list"),
        ([BOX, {"cat": 0.5}], "entry 0 of its answer"),
        ([[BOX]], "entry 0"),
        ([[BOX, {"cat": 0.5}], 7], "entry 1 of its answer: int 7"),
        ([[BOX, {"cat": 1.01}]], "the score of 'cat' is 1.01; scores lie in [0, 1]"),
        ([[BOX, {"cat": -0.01}]], "the score of 'cat' is -0.01"),
        ([[BOX, {"cat": math.nan}]], "the score of 'cat' is nan, not a finite number"),
        ([[BOX, {"cat": "0.5"}]], "the score of 'cat' is str '0.5', not a number"),
        ([[BOX, {"cat": True}]], "the score of 'cat' is bool True"),
        ([[BOX, {"cat": None}]], "the score of 'cat' is NoneType None"),
        ([[BOX, ["cat", 0.5]]], "the labels list ['cat', 0.5]"),
        ([[BOX, [{"description": "cat"}]]], "the labels list"),
        ([[(0, 0, 1), {}]], "the position tuple (0, 0, 1) is not (x, y, w, h)"),
        ([[(0, 0, math.inf, 1), {}]], "`w` of the position is inf"),
        ([[(0, 0, 1, -2), {}]], "height -2.0; neither may be negative"),
        ([[("a", 0, 1, 1), {}]], "`x` of the position is str 'a'"),
        ([[None, {}]], "the position NoneType None"),
        ([{"position": {"x": 0, "y": 0, "w": 1}, "label": []}], "is not (x, y, w, h)"),
        ([{"label": []}], "entry 0"),
    ],
)
def test_a_refused_answer_says_what_is_wrong(answer: Any, said: str) -> None:
    with pytest.raises(ModuleOutputInvalid) as caught:
        read_answer(answer, "mine")
    assert "module 'mine'" in caught.value.message
    assert said in caught.value.message


def test_more_than_one_number_is_no_score() -> None:
    import numpy as np

    with pytest.raises(ModuleOutputInvalid, match="holds more than one number"):
        read_answer([[BOX, {"cat": np.array([0.1, 0.2])}]], "mine")


def test_no_entries_is_no_detections() -> None:
    assert read_answer([], "mine") == ()
    assert read_answer((), "mine") == ()


def test_rounding_of_single_precision_is_forgiven() -> None:
    (detection,) = read_answer([[BOX, {"a": 1.00000012, "b": -1e-9}]], "mine")
    assert [label.score for label in detection.labels] == [1.0, 0.0]


def test_long_values_are_cut_in_the_message() -> None:
    with pytest.raises(ModuleOutputInvalid) as caught:
        read_answer([["x" * 10_000, {}]], "mine")
    assert len(caught.value.message) < 300
