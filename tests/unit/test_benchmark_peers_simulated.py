"""The simulated device: its answers come from the pixels, and its time from its constants."""

import time

import pytest
from PIL import Image

from benchmarks.simulated.module import Simulated, batch_s, rate
from modules.loading import load_model, load_module
from tests.images import BOX, picture

# White on black, so that the rectangle is what is brighter than the mean.
IMAGE = Image.eval(picture(colour=(0, 0, 0)), lambda channel: 255 - channel)


def test_it_loads_by_its_folder_and_finds_what_is_bright() -> None:
    module = load_module("./benchmarks/simulated")
    load_model(module, "cpu")
    [(detection,)] = module.infer([module.preprocess(IMAGE)])
    box = detection.box
    assert (box.x, box.y, box.w, box.h) == pytest.approx(BOX, abs=2 * max(IMAGE.size) / 64)
    assert detection.labels[0].score == pytest.approx(BOX[2] * BOX[3] / (200 * 150), abs=0.03)


def test_an_image_without_contrast_has_no_detection() -> None:
    module = Simulated()
    [found] = module.infer([module.preprocess(Image.new("RGB", (200, 150), (9, 9, 9)))])
    assert found == ()


def test_batches_queue_for_the_device_and_no_answer_comes_early() -> None:
    module = Simulated()
    item = module.preprocess(IMAGE)
    first, second = module.submit([item]), module.submit([item] * 16)
    assert second.ready_at - first.ready_at == pytest.approx(batch_s(16))
    assert len(module.collect(first)) == 1
    assert len(module.collect(second)) == 16
    assert time.monotonic() >= second.ready_at


def test_the_rate_follows_from_the_constants() -> None:
    assert rate(1) == pytest.approx(1 / 0.064)
    assert rate(16) == pytest.approx(16 / 0.124)
