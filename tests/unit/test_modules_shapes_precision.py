"""Average precision, against what is computed by hand."""

import math

import numpy as np
import pytest

from modules.shapes.precision import Corners, Tally, overlap

LEFT, RIGHT = (0.0, 0, 10, 10), (20.0, 0, 30, 10)
NEAR_LEFT = (2.0, 0, 12, 10)
LARGE = (0.0, 20, 50, 70)


def boxes(*corners: tuple[float, float, float, float]) -> Corners:
    return np.array(corners, np.float64).reshape(-1, 4)


def test_overlap_is_intersection_over_union() -> None:
    found = overlap(boxes(LEFT, RIGHT), boxes(LEFT, NEAR_LEFT))

    assert found.tolist() == [pytest.approx([1, 80 / 120]), [0, 0]]


def test_all_found_and_nothing_else_is_perfect() -> None:
    tally = Tally()
    tally.add(boxes(RIGHT, NEAR_LEFT), [0.3, 0.9], boxes(LEFT, RIGHT))

    assert tally.average_precision() == 1


def test_a_second_box_on_the_same_shape_is_wrong() -> None:
    tally = Tally()
    tally.add(boxes(LEFT, NEAR_LEFT, RIGHT), [0.9, 0.8, 0.7], boxes(LEFT, RIGHT))

    assert tally.average_precision() == pytest.approx((1 + 2 / 3) / 2)


def test_a_precision_is_the_best_at_no_lower_recall() -> None:
    tally = Tally()
    tally.add(boxes((90, 90, 95, 95)), [0.9], boxes())
    tally.add(boxes(LEFT, RIGHT), [0.8, 0.7], boxes(LEFT, RIGHT))

    assert tally.average_precision() == pytest.approx(2 / 3)


def test_what_is_missed_costs_recall() -> None:
    tally = Tally()
    tally.add(boxes(LEFT), [0.9], boxes(LEFT, RIGHT))
    tally.add(boxes(), [], boxes(LEFT, RIGHT))

    assert tally.average_precision() == pytest.approx(1 / 4)
    assert tally.wanted == 4


def test_other_sizes_neither_count_nor_cost() -> None:
    tally = Tally(low=0, high=20)
    tally.add(boxes(LARGE, LEFT, (60, 60, 99, 99)), [0.9, 0.8, 0.95], boxes(LARGE, LEFT))
    assert tally.average_precision() == 1
    assert tally.wanted == 1

    tally.add(boxes((60, 60, 65, 65)), [0.99], boxes())
    assert tally.average_precision() == 0.5


def test_there_is_no_precision_where_there_was_nothing_to_find() -> None:
    assert math.isnan(Tally().average_precision())
