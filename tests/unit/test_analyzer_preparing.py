"""From a file's bytes to what the module makes of them, on the host and on the device."""

import io
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any

import pytest
import torch
from PIL import Image

from consumers.analyzer.account import Account
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.errors import ImageError
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.gpu_decoding import TensorDecoder
from consumers.analyzer.preparing import Prepare
from consumers.analyzer.window import Found, PartitionWindow, Task
from schemas.messages import ImageReference, RecordPosition, Request

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")

POSITION = RecordPosition("id", "t", 0, 1, datetime(2026, 1, 1, tzinfo=UTC))


class Sizes:
    """Answers nothing; what it prepares says what it was given."""

    name, version = "sizes", "1"
    decode_size_px = 50

    def load(self, device: str) -> None: ...

    def preprocess(self, image: Image.Image) -> tuple[str, int, int]:
        return ("image", image.width, image.height)

    def infer(self, batch: Any) -> Any:
        return [[] for _ in batch]


class Tensors(Sizes):
    """Takes tensors as well."""

    def preprocess_tensor(self, image: torch.Tensor) -> tuple[str, int, int]:
        return ("tensor", image.shape[2], image.shape[1])


class NoRoom(Sizes):
    """Its device is always full."""

    def preprocess_tensor(self, image: torch.Tensor) -> tuple[str, int, int]:
        raise torch.OutOfMemoryError("CUDA out of memory")


class Unsorted(Sizes):
    """Says of its images what cannot be compared."""

    def bucket(self, prepared: Any) -> list[int]:
        return [1]


def file(kind: str, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((400, 200)).convert("RGB").save(buffer, kind, exif=exif)
    return buffer.getvalue()


def prepare(
    module: Any, raw: bytes, decoder: TensorDecoder | None
) -> tuple[Task, list[Hashable], ByteBudget]:
    budget, kinds = ByteBudget(10**9), []
    request = Request(version=1, request_id="r", image=ImageReference("b", "k"))
    task = Task(request, None, POSITION.at(0), PartitionWindow("t", 0), Found("k"))
    task.raw = raw
    flight = FlightRecorder(None, 1, 60)
    Prepare(module, 10**8, budget, Account(), flight, lambda kind, _: kinds.append(kind), decoder)(task)
    return task, kinds, budget


def test_an_image_is_decoded_reduced_and_the_scale_leads_back() -> None:
    task, kinds, _ = prepare(Sizes(), file("JPEG"), None)
    assert task.prepared == ("image", 100, 50)
    assert task.scale == (4.0, 4.0)
    assert (task.found.width_px, task.found.height_px, task.found.format) == (400, 200, "JPEG")
    assert kinds == [None]
    assert task.raw is None


@pytest.mark.parametrize(("orientation", "size"), [(1, (400, 200)), (6, (200, 400))])
def test_a_jpeg_is_decoded_on_the_device_at_full_size_and_upright(
    orientation: int, size: tuple[int, int]
) -> None:
    task, _, _ = prepare(Tensors(), file("JPEG", orientation), TensorDecoder("cpu"))
    assert task.prepared == ("tensor", *size)
    assert task.scale == (1.0, 1.0)
    assert (task.found.width_px, task.found.height_px) == size


def test_what_the_device_does_not_decode_is_left_to_pillow() -> None:
    task, _, _ = prepare(Tensors(), file("PNG"), TensorDecoder("cpu"))
    assert task.prepared == ("image", 400, 200)


def test_where_the_device_has_no_room_the_host_decodes() -> None:
    task, _, _ = prepare(NoRoom(), file("JPEG"), TensorDecoder("cpu"))
    assert task.prepared == ("image", 100, 50)


def test_a_kind_that_cannot_be_compared_fails_the_image() -> None:
    with pytest.raises(ImageError, match="s3://b/k: preprocess raised TypeError") as raised:
        prepare(Unsorted(), file("JPEG"), None)
    assert raised.value.code == "module_error"


def test_what_the_module_keeps_is_all_that_stays_held() -> None:
    class Bytes(Sizes):
        def preprocess(self, image: Image.Image) -> Any:
            return memoryview(bytes(7))

    task, _, budget = prepare(Bytes(), file("JPEG"), None)
    assert budget.held_bytes == 7
    task.free()
    assert budget.held_bytes == 0
