"""From raw outputs to boxes."""

import math

import pytest
import torch
from torchvision.ops import batched_nms

from modules.shapes import boxes
from modules.shapes.network import CLASSES, OUTPUTS, Detector

CPU = torch.device("cpu")


def test_cells_are_in_the_order_of_the_networks_outputs() -> None:
    grid = boxes.cells(64, 96, CPU)

    assert grid.shape == (8 * 12 + 4 * 6 + 2 * 3, 3)
    assert grid[:2].tolist() == [[4, 4, 8], [12, 4, 8]]
    assert grid[12].tolist() == [4, 12, 8]
    assert grid[96].tolist() == [8, 8, 16]
    assert grid[-1].tolist() == [80, 48, 32]
    with torch.no_grad():
        assert Detector().eval()(torch.zeros(2, 3, 64, 96)).shape == (2, len(grid), OUTPUTS)


def test_a_cell_tells_the_centre_and_half_the_sides_in_strides() -> None:
    grid = torch.tensor([[40.0, 24.0, 16.0]])
    raw = torch.zeros(1, 1, OUTPUTS)
    raw[0, 0, CLASSES:] = torch.tensor([0.5, -0.25, math.log(2), math.log(0.5)])

    assert boxes.decode(raw, grid)[0, 0].tolist() == pytest.approx([16, 12, 80, 28])


def test_candidates_are_the_best_pairs_of_cell_and_class() -> None:
    grid = boxes.cells(32, 32, CPU)
    raw = torch.full((2, len(grid), OUTPUTS), -9.0)
    raw[..., CLASSES:] = 0
    raw[0, 3, 1], raw[0, 3, 2], raw[0, 20, 0], raw[1, 5, 3] = 4, 3, 2, 1

    scores, corners, kinds = boxes.candidates(raw, grid)

    assert scores.shape == kinds.shape == (2, len(grid) * CLASSES)
    assert scores[0, :4].tolist() == pytest.approx([sigmoid(4), sigmoid(3), sigmoid(2), sigmoid(-9)])
    assert kinds[0, :3].tolist() == [1, 2, 0]
    assert kinds[1, 0] == 3
    assert corners[0, :3].tolist() == [[20, -4, 36, 12], [20, -4, 36, 12], [-16, -16, 48, 48]]


def test_overlapping_boxes_of_one_kind_in_one_image_are_one() -> None:
    one, same, apart = [0.0, 0, 10, 10], [1.0, 0, 11, 10], [5.0, 0, 15, 10]
    corners = torch.tensor([[one, same, apart], [one, same, one]])
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.6, 0.5, 0.01]])
    kinds = torch.tensor([[2, 2, 2], [1, 3, 1]])

    image, place = boxes.survivors(scores, corners, kinds)

    assert list(zip(image.tolist(), place.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 1)]


def test_what_a_suppressed_box_covered_stays() -> None:
    corners = torch.tensor([[[0.0, 0, 10, 10], [3.0, 0, 13, 10], [6.0, 0, 16, 10], [9.0, 0, 19, 10]]])

    _, place = boxes.survivors(
        torch.tensor([[0.9, 0.8, 0.7, 0.6]]), corners, torch.zeros(1, 4, dtype=torch.int64)
    )

    assert place.tolist() == [0, 2], "the second goes, so it covers nobody; the third covers the fourth"


def test_the_same_boxes_stay_as_with_torchvision() -> None:
    draw = torch.Generator().manual_seed(1)
    low = torch.rand(8, 60, 2, generator=draw) * 60
    corners = torch.cat((low, low + 5 + torch.rand(8, 60, 2, generator=draw) * 40), -1)
    scores = torch.rand(8, 60, generator=draw).sort(1, descending=True).values
    kinds = torch.randint(0, CLASSES, (8, 60), generator=draw)

    image, place = boxes.survivors(scores, corners, kinds)

    for index in range(8):
        sure = scores[index] >= boxes.MIN_SCORE
        expected = batched_nms(
            corners[index][sure], scores[index][sure], kinds[index][sure], boxes.MOST_OVERLAP
        )
        assert place[image == index].tolist() == expected.tolist()


def test_nothing_survives_where_nothing_is_sure() -> None:
    image, place = boxes.survivors(
        torch.full((2, 3), 0.01), torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
    )

    assert image.tolist() == place.tolist() == []


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
