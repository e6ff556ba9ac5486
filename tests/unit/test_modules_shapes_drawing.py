"""The scenes that are learnt from and measured with."""

import numpy as np
import pytest

from modules.shapes.drawing import LARGEST, LEAST_CONTRAST, SMALLEST, Scene, draw_scene
from modules.shapes.kinds import KINDS

SIZE = (320, 240)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene((5, index), SIZE) for index in range(120)]


def test_a_seed_draws_the_same_each_time_and_another_something_else() -> None:
    first, again, other = draw_scene((5, 0), SIZE), draw_scene((5, 0), SIZE), draw_scene((5, 1), SIZE)

    assert first == again
    assert first.image.tobytes() != other.image.tobytes()
    assert first.targets != other.targets


def test_every_kind_is_drawn_about_as_often(scenes: list[Scene]) -> None:
    kinds = [target.kind for scene in scenes for target in scene.targets]

    assert len(kinds) > 300
    assert all(0.18 < kinds.count(kind) / len(kinds) < 0.32 for kind in KINDS)


def test_sizes_are_spread_from_the_smallest_to_the_largest(scenes: list[Scene]) -> None:
    sides = [max(box[2] - box[0], box[3] - box[1]) / SIZE[0] for box in corners(scenes)]

    assert max(sides) <= LARGEST + 1e-6
    assert min(sides) >= SMALLEST / 3  # of a shape that is half outside the image
    assert 0.02 < share_below(0.05, sides) < 0.12
    assert 0.2 < share_below(0.2, sides) < 0.5
    assert 0.6 < share_below(0.4, sides) < 0.9


def test_training_may_ask_for_more_small_ones(scenes: list[Scene]) -> None:
    sides = [max(box[2] - box[0], box[3] - box[1]) / SIZE[0] for box in corners(scenes)]
    many = [draw_scene((5, index), SIZE, more_small=True) for index in range(60)]
    small = [max(box[2] - box[0], box[3] - box[1]) / SIZE[0] for box in corners(many)]

    assert share_below(0.1, small) > 1.5 * share_below(0.1, sides)


def test_boxes_lie_in_the_image_and_some_shapes_reach_out_of_it(scenes: list[Scene]) -> None:
    boxes = np.array(corners(scenes))

    assert boxes.min() == 0
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes[:, 2].max() == SIZE[0]
    assert boxes[:, 3].max() == SIZE[1]


def test_a_box_fits_its_shape() -> None:
    for index in range(40):
        scene = draw_scene((6, index), SIZE)
        if len(scene.targets) == 1 and min(scene.targets[0].corners) > 2:
            break
    (target,) = scene.targets
    pixels = np.asarray(scene.image).astype(float)
    left, top, right, bottom = (round(side) for side in target.corners)
    middle = pixels[(top + bottom) // 2, (left + right) // 2]

    unlike = np.linalg.norm(pixels - middle, axis=2) > LEAST_CONTRAST / 2
    rows, columns = np.nonzero(~unlike[top:bottom, left:right])
    assert np.ptp(rows) > 0.8 * (bottom - top)
    assert np.ptp(columns) > 0.8 * (right - left)
    assert unlike[max(0, top - 3), left:right].mean() > 0.5


def share_below(limit: float, sides: list[float]) -> float:
    return sum(side < limit for side in sides) / len(sides)


def corners(scenes: list[Scene]) -> list[tuple[float, float, float, float]]:
    return [target.corners for scene in scenes for target in scene.targets]
