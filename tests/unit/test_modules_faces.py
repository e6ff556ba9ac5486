"""Real photographs from scikit-image's wheel, through the real network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import skimage
from PIL import Image

from modules.contract import Detection
from modules.faces.module import Faces

PHOTOS = Path(skimage.__file__).parent / "data"
PROJECT = Path(__file__).parent.parent.parent

EYES_AND_MOUTH = {"astronaut.png": [(207, 108), (242, 105), (228, 142)], "camera.png": [(240, 150)]}
WITHOUT_FACES = ["chelsea.png", "coffee.png", "rocket.jpg", "coins.png"]


@pytest.fixture(scope="module")
def faces() -> Faces:
    module = Faces()
    module.load("cpu")
    return module


def photo(name: str) -> Image.Image:
    with Image.open(PHOTOS / name) as image:
        return image.convert("RGB")


def test_every_photograph_in_one_batch(faces: Faces) -> None:
    names = [*EYES_AND_MOUTH, *WITHOUT_FACES]
    answers = dict(zip(names, faces.infer([faces.preprocess(photo(name)) for name in names]), strict=True))

    assert {name: len(answer) for name, answer in answers.items()} == {
        **dict.fromkeys(EYES_AND_MOUTH, 1),
        **dict.fromkeys(WITHOUT_FACES, 0),
    }
    for name, points in EYES_AND_MOUTH.items():
        (face,) = answers[name]
        assert face.labels[0].label == "face"
        assert 0.9 <= face.labels[0].score <= 1
        assert all(contains(face, point) for point in points)
        assert face.box.w < photo(name).width / 3


def test_boxes_are_in_pixels_of_the_image_it_was_given(faces: Faces) -> None:
    image = photo("astronaut.png")
    sizes = [(512, 512), (1280, 1280)]
    (first,), (second,) = faces.infer([faces.preprocess(image.resize(size)) for size in sizes])

    assert [second.box.x, second.box.w] == pytest.approx([first.box.x * 2.5, first.box.w * 2.5], rel=0.1)
    assert [second.box.y, second.box.h] == pytest.approx([first.box.y * 2.5, first.box.h * 2.5], rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (5000, 3), (19, 19)])
def test_images_too_small_for_a_face(faces: Faces, size: tuple[int, int]) -> None:
    assert faces.infer([faces.preprocess(Image.new("RGB", size, "white"))]) == [[]]


@pytest.mark.timeout(300)
def test_it_keeps_the_contract_with_images_that_have_faces(tmp_path: Path) -> None:
    (tmp_path / "astronaut.png").write_bytes((PHOTOS / "astronaut.png").read_bytes())
    command = ["modules", "check", "faces", "--images", str(tmp_path)]
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


def contains(detection: Detection, point: tuple[int, int]) -> bool:
    box, (x, y) = detection.box, point
    return box.x < x < box.x + box.w and box.y < y < box.y + box.h
