"""The shipped detector with its shipped weights: what it finds, what it costs, what it refuses."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.utils.flop_counter import FlopCounterMode

from modules.answers import alike
from modules.canvas import Fitted
from modules.contract import Detection
from modules.errors import ModuleLoadFailed
from modules.shapes.drawing import Scene, draw_scene
from modules.shapes.evaluation import HeldOut, evaluate
from modules.shapes.module import SIDE_PX, Shapes
from modules.shapes.network import Detector
from modules.shapes.weights import WEIGHTS, load_network

PROJECT = Path(__file__).parent.parent.parent
SIZES = ((640, 480), (480, 640), (300, 300), (90, 40))


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    module = Shapes()
    module.load("cpu")
    return module


@pytest.fixture(scope="module")
def prepared(shapes: Shapes) -> list[Fitted]:
    scenes = [draw_scene((77, index), SIZES[index % len(SIZES)]) for index in range(12)]
    return [shapes.preprocess(scene.image) for scene in scenes]


def test_it_finds_what_was_drawn(shapes: Shapes) -> None:
    found = evaluate(shapes, HeldOut(images=60, seed=3, side_px=640), processes=1)

    assert found.mean_precision >= 0.85
    assert all(precision >= 0.75 for precision in found.by_kind.values())
    assert [band.shapes > 0 for band in found.by_size] == [True] * 4


def test_boxes_are_in_pixels_of_the_image_it_was_given(shapes: Shapes) -> None:
    image = Image.new("RGB", (1600, 1200), (30, 60, 90))
    ImageDraw.Draw(image).rectangle((200, 300, 599, 699), fill=(250, 220, 40))

    (answer,) = shapes.infer([shapes.preprocess(image)])

    best = answer[0]
    assert best.labels[0].label == "square"
    assert best.labels[0].score > 0.5
    assert (best.box.x, best.box.y, best.box.w, best.box.h) == pytest.approx((200, 300, 400, 400), abs=60)


def test_boxes_stay_inside_the_image_and_are_in_order(shapes: Shapes) -> None:
    scenes = [draw_scene((78, index), (400, 300)) for index in range(8)]
    answers = shapes.infer([shapes.preprocess(scene.image) for scene in scenes])

    assert any(touches_the_border(scene) for scene in scenes)
    for answer in answers:
        scores = [detection.labels[0].score for detection in answer]
        assert scores == sorted(scores, reverse=True)
        assert all(is_inside(detection, 400, 300) for detection in answer)


def test_what_else_is_in_the_batch_changes_no_answer(shapes: Shapes, prepared: list[Fitted]) -> None:
    alone = [tuple(shapes.infer([item])[0]) for item in prepared]
    together = [tuple(answer) for answer in shapes.infer(prepared)]
    backwards = [tuple(answer) for answer in reversed(shapes.infer(prepared[::-1]))]

    assert sum(map(len, alone)) > 20
    assert all(alike(one, other) for one, other in zip(alone, together, strict=True))
    assert all(alike(one, other) for one, other in zip(alone, backwards, strict=True))


def test_a_batch_may_be_submitted_before_the_last_one_is_collected(
    shapes: Shapes, prepared: list[Fitted]
) -> None:
    batches = [[prepared[0], prepared[4]], [prepared[1], prepared[5]]]
    handles = [shapes.submit(batch) for batch in batches]

    collected = [shapes.collect(handle) for handle in handles]

    assert collected == [shapes.infer(batch) for batch in batches]
    assert collected[0] != collected[1]


def test_images_of_nearly_one_shape_share_a_canvas(shapes: Shapes) -> None:
    buckets = [shapes.preprocess(Image.new("RGB", size)).shape for size in (*SIZES, (1280, 960))]

    assert buckets == [(256, 320, 3), (320, 256, 3), (320, 320, 3), (160, 320, 3), (256, 320, 3)]


def test_an_image_decoded_on_the_device_is_answered_alike(shapes: Shapes) -> None:
    scene = draw_scene((80, 1), (640, 480))
    tensor = torch.from_numpy(np.array(scene.image)).permute(2, 0, 1)
    from_image, from_tensor = shapes.preprocess(scene.image), shapes.preprocess_tensor(tensor)

    assert shapes.bucket(from_image) != shapes.bucket(from_tensor)
    one, other = shapes.infer([from_image, from_tensor])
    assert sure(one)
    assert [detection.labels[0].label for detection in sure(one)] == [
        detection.labels[0].label for detection in sure(other)
    ]
    for found, again in zip(sure(one), sure(other), strict=True):
        assert (again.box.x, again.box.w) == pytest.approx((found.box.x, found.box.w), abs=10)


def test_a_4_to_3_jpeg_that_is_decoded_reduced_keeps_every_pixel_that_is_looked_at() -> None:
    for size in ((1280, 960), (4032, 3024), (960, 1280), (1920, 1080), (3000, 2000)):
        scale = max(scale for scale in (1, 2, 4, 8) if min(size) // scale >= Shapes.decode_size_px)
        assert max(size) / scale >= SIDE_PX


def test_an_image_costs_at_most_0_4_gflop() -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Detector().eval()(torch.zeros(1, 3, SIDE_PX, SIDE_PX))

    assert 0.2e9 < counter.get_total_flops() <= 0.4e9


def test_it_is_small() -> None:
    assert 0.3e6 < sum(weight.numel() for weight in Detector().parameters()) < 1.5e6
    assert WEIGHTS.stat().st_size < 8_000_000


def test_fusing_changes_no_output() -> None:
    import safetensors.torch

    plain = Detector().eval()
    plain.load_state_dict(safetensors.torch.load_file(WEIGHTS))
    pixels = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        torch.testing.assert_close(load_network()(pixels.float()), plain(pixels / 255), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in load_network().modules())


def test_other_weights_are_refused(tmp_path: Path) -> None:
    data = bytearray(WEIGHTS.read_bytes())
    data[-1] ^= 1
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(data)

    with pytest.raises(ModuleLoadFailed, match=r"changed\.safetensors has the sha256 [0-9a-f]{64}, not "):
        load_network(changed)
    with pytest.raises(ModuleLoadFailed, match=r"gone\.safetensors cannot be read: No such file"):
        load_network(tmp_path / "gone.safetensors")


def test_naming_it_imports_no_torch() -> None:
    script = "import sys, modules.shapes.module; sys.exit('torch' in sys.modules)"

    assert (
        subprocess.run([sys.executable, "-c", script], cwd=PROJECT, timeout=60, check=False).returncode == 0
    )


@pytest.mark.timeout(300)
def test_it_keeps_the_contract(tmp_path: Path) -> None:
    for index in range(3):
        draw_scene((79, index), (640, 480)).image.save(tmp_path / f"{index}.png")
    command = ["modules", "check", "shapes", "--images", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "analysis.py", *command, "--seconds", "0.3", "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    report = json.loads(run.stdout)
    assert [finding for finding in report["findings"] if finding["verdict"] != "passed"] == []
    assert run.returncode == 0


def sure(detections: Sequence[Detection]) -> list[Detection]:
    return [detection for detection in detections if detection.labels[0].score > 0.5]


def touches_the_border(scene: Scene) -> bool:
    return any(min(target.left, target.top) == 0 for target in scene.targets)


def is_inside(detection: Detection, width: int, height: int) -> bool:
    box = detection.box
    return (
        box.x >= 0
        and box.y >= 0
        and box.x + box.w <= width + 1e-3
        and box.y + box.h <= height + 1e-3
        and min(box.w, box.h) > 0
    )
