"""What `infer` may return, and when two answers are the same."""

from typing import Any

import numpy as np
import pytest

from modules.answers import alike, read_answers
from modules.contract import Box, Detection, Label
from modules.errors import ModuleOutputInvalid

CAT = Detection(Box(0, 0, 10, 10), (Label("cat", 0.9),))
DOG = Detection(Box(5, 5, 10, 10), (Label("dog", 0.8),))


def test_answers_are_handed_on_as_tuples() -> None:
    assert read_answers([[CAT, DOG], ()], 2) == [(CAT, DOG), ()]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (None, "NoneType, not a list of answers"),
        (iter([[CAT]]), "not a list of answers"),
        ([], "0 answers to 1 images"),
        ([CAT], "image 0 of the batch: the answer is Detection, not a list of detections"),
        ([["cat"]], "image 0 of the batch, detection 0 is str"),
        ([[CAT, Detection((0, 0, 1, 1), ())]], "detection 1 is Detection, not a Detection with a Box"),  # type: ignore[arg-type]
        ([[Detection(Box(0, 0, -1, 1), ())]], "negative width or height"),
        ([[Detection(Box(0, 0, float("inf"), 1), ())]], "not a finite Python number"),
        ([[Detection(Box(np.float32(1), 0, 1, 1), ())]], "not a finite Python number"),  # type: ignore[arg-type]
        ([[Detection(Box(0, 0, 1, 1), "cat")]], "its labels are str"),  # type: ignore[arg-type]
        ([[Detection(Box(0, 0, 1, 1), (("cat", 1.0),))]], "is not a Label"),  # type: ignore[arg-type]
        ([[Detection(Box(0, 0, 1, 1), (Label("cat", 1.5),))]], "the score of 'cat' is 1.5"),
        ([[Detection(Box(0, 0, 1, 1), (Label("cat", float("nan")),))]], "the score of 'cat' is nan"),
    ],
)
def test_answers_that_break_the_contract(answers: Any, said: str) -> None:
    with pytest.raises(ModuleOutputInvalid) as caught:
        read_answers(answers, 1)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ((DOG, CAT), True),
        ((CAT,), False),
        ((CAT, CAT), False),
        ((CAT, DOG, DOG), False),
        ((CAT, Detection(Box(5.5, 5, 10, 10), (Label("dog", 0.81),))), True),
        ((CAT, Detection(Box(7, 5, 10, 10), (Label("dog", 0.8),))), False),
        ((CAT, Detection(Box(5, 5, 10, 10), (Label("dog", 0.7),))), False),
        ((CAT, Detection(Box(5, 5, 10, 10), (Label("wolf", 0.8),))), False),
    ],
)
def test_alike(other: tuple[Detection, ...], same: bool) -> None:
    assert alike((CAT, DOG), other) is same
