"""The training script, in small: targets, batches, and that it learns."""

import logging
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from modules.shapes import boxes, train
from modules.shapes.module import STEP_PX
from modules.shapes.network import CLASSES, STRIDES, Detector
from modules.shapes.training.assignment import assign
from modules.shapes.training.batches import batches
from modules.shapes.training.loop import Plan, new_network
from modules.shapes.training.loop import train as run
from modules.shapes.training.loss import detection_loss
from modules.shapes.training.pool import CANVAS, NO_KIND, Pool, draw_pool

GRID = boxes.cells(64, 64, torch.device("cpu"))
SQUARE = (8.0, 8.0, 40.0, 40.0)


def pool_of(box: tuple[float, float, float, float], images: int = 4) -> Pool:
    """Images that are white in a box and black around it."""
    left, top, right, bottom = map(int, box)
    pixels = np.zeros((images, *CANVAS), np.uint8)
    pixels[:, top:bottom, left:right] = 255
    return Pool(pixels, np.tile(np.array(box, np.float32), (images, 1, 1)), np.full((images, 1), 1, np.int64))


def test_cells_inside_learn_the_shape_and_those_outside_nothing() -> None:
    predicted = torch.cat((GRID[:, :2] - 16, GRID[:, :2] + 16), 1)[None]
    scores = torch.full((1, len(GRID), CLASSES), 0.1)

    goals = assign(scores, predicted, GRID, torch.tensor([[SQUARE]]), torch.tensor([[2]]))

    learning = goals.scores[0, :, 2] > 0
    assert 4 <= learning.sum() <= 10
    assert ((GRID[learning, :2] > 8) & (GRID[learning, :2] < 40)).all()
    best = int(goals.scores[0, :, 2].argmax())
    assert goals.scores[0, best, 2] == pytest.approx(1.0, abs=0.5)
    assert goals.boxes[0, best].tolist() == list(SQUARE)
    assert goals.scores[..., [0, 1, 3]].sum() == 0


def test_a_shape_smaller_than_a_cell_is_learnt_too() -> None:
    predicted = torch.cat((GRID[:, :2] - 6, GRID[:, :2] + 6), 1)[None]
    tiny = torch.tensor([[[14.5, 14.5, 15.5, 15.5]]])

    goals = assign(torch.full((1, len(GRID), CLASSES), 0.1), predicted, GRID, tiny, torch.tensor([[0]]))

    learning = goals.scores[0, :, 0] > 0
    assert GRID[learning].tolist() == [[x, y, 8] for y in (12, 20) for x in (12, 20)]


def test_without_shapes_nothing_is_learnt_but_to_be_silent() -> None:
    raw = torch.zeros(1, len(GRID), CLASSES + 4, requires_grad=True)

    loss = detection_loss(raw, GRID, torch.zeros(1, 3, 4), torch.full((1, 3), NO_KIND))
    loss.backward()  # type: ignore[no-untyped-call]

    assert raw.grad is not None
    assert (raw.grad[..., :CLASSES] > 0).all()
    assert (raw.grad[..., CLASSES:] == 0).all()


def test_boxes_are_changed_as_their_images_are() -> None:
    pool = pool_of((40, 60, 140, 180), images=1)

    seen = set()
    for batch in batches(pool, 1, [1] * 60, np.random.default_rng(1)):
        (left, top, right, bottom) = (int(side) for side in batch.boxes[0, 0])
        image = batch.pixels[0]
        assert (image[:, top:bottom, left:right] == 255).all()
        assert int(image.sum()) == 3 * 255 * (bottom - top) * (right - left)
        seen.add((left, top, right, bottom))
    assert len(seen) == 8


def test_a_shrunken_batch_has_a_quarter_of_the_pixels_and_forgets_what_is_too_small() -> None:
    (large,) = batches(pool_of((40, 60, 140, 180)), 2, [2], np.random.default_rng(1))
    (small,) = batches(pool_of((40, 60, 45, 66)), 2, [2], np.random.default_rng(1))

    assert large.pixels[0].numel() == CANVAS[0] * CANVAS[1] * CANVAS[2] // 4
    assert sorted(sides(large.boxes[0, 0])) == [50, 60]
    assert large.kinds.tolist() == [[1], [1]]
    assert small.kinds.tolist() == [[NO_KIND], [NO_KIND]]


def test_a_few_steps_learn() -> None:
    torch.manual_seed(0)
    network = new_network().train()
    (batch,) = batches(pool_of((40, 60, 140, 180)), 4, [2], np.random.default_rng(1))
    grid = boxes.cells(*batch.pixels.shape[2:], torch.device("cpu"))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = detection_loss(network(batch.pixels / 255), grid, batch.boxes, batch.kinds)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.5 * losses[0]


def test_a_pool_is_drawn_once_and_then_read(tmp_path: Path) -> None:
    drawn = draw_pool(tmp_path, 3, 9, 1)
    (tmp_path / "pool-9-3.images").touch()
    again = draw_pool(tmp_path, 3, 9, 1)

    assert drawn.images.shape == (3, *CANVAS)
    assert (drawn.kinds != NO_KIND).any(1).all()
    assert np.array_equal(drawn.images, again.images)
    assert np.array_equal(drawn.boxes, again.boxes)


def test_the_loop_writes_weights_that_the_network_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modules.shapes.training.loop.CHECK_IMAGES", 2)
    output = tmp_path / "weights.safetensors"
    with caplog.at_level(logging.INFO):
        run(
            Plan(
                pool=tmp_path,
                output=output,
                images=2,
                steps=2,
                coarse_steps=1,
                batch=2,
                rate=1e-3,
                seed=1,
                check_every=1,
                threads=1,
                device="cpu",
            )
        )

    Detector().load_state_dict(safetensors.torch.load_file(output))
    assert [line.partition(",")[0] for line in caplog.messages if line.startswith("step")] == [
        "step 1",
        "step 2",
    ]
    assert sorted(path.name for path in tmp_path.glob("weights*")) == ["weights.safetensors"]


def test_help_says_how_it_is_trained() -> None:
    import typer

    app = typer.Typer()
    app.command()(train.main)
    shown = CliRunner().invoke(app, ["--help"])

    assert shown.exit_code == 0
    assert "--coarse-steps" in shown.output


def test_canvases_are_whole_cells_of_the_coarsest_grid() -> None:
    assert max(STRIDES) == STEP_PX


def sides(box: torch.Tensor) -> list[float]:
    return (box[2:] - box[:2]).tolist()
