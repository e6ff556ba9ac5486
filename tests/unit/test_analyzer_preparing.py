"""From a file's bytes to what the module makes of them, on the host and on the device."""

import hashlib
import io
import queue
import threading
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any

import pytest
import torch
from PIL import Image

from consumers.analyzer.account import Account
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.fetching import Fetch
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.gpu_decoding import TensorDecoder
from consumers.analyzer.preparing import Prepare
from consumers.analyzer.window import Found, PartitionWindow, Task
from infra.images.errors import ImageError
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


def task_with(raw: bytes | None, etag: str | None = None) -> Task:
    request = Request(version=1, request_id="r", image=ImageReference("b", "k"))
    task = Task(request, None, POSITION.at(0), PartitionWindow("t", 0), Found("k", etag=etag))
    task.raw = raw
    return task


def stage(
    module: Any, budget: ByteBudget, kinds: list[Hashable], again: list[Task], decoder: TensorDecoder | None
) -> Prepare:
    flight = FlightRecorder(None, 1, 60)
    return Prepare(
        module, 10**8, budget, Account(), flight, lambda kind, _: kinds.append(kind), again.append, decoder
    )


def prepare(
    module: Any, raw: bytes, decoder: TensorDecoder | None
) -> tuple[Task, list[Hashable], ByteBudget]:
    budget, kinds, task = ByteBudget(10**9), list[Hashable](), task_with(raw)
    stage(module, budget, kinds, [], decoder)(task)
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


GOOD = file("JPEG")
SPOILED = [bytes(1000), bytes(2000)]
"""As they arrive, one after the other."""


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("spoiled", [b"no image", GOOD[:500], b"\x89PNG" + GOOD])
def test_bytes_that_are_not_the_etags_are_fetched_again(spoiled: bytes) -> None:
    again: list[Task] = []
    task, budget = task_with(spoiled, md5(GOOD)), ByteBudget(10**9)
    stage(Sizes(), budget, [], again, None)(task)
    assert again == [task]
    assert task.raw is None
    assert budget.held_bytes == 0


@pytest.mark.parametrize(
    "etag",
    [
        pytest.param(md5(b"no image"), id="what the store has"),
        pytest.param(md5(GOOD) + "-2", id="of an upload in parts"),
        pytest.param(None, id="none"),
    ],
)
def test_where_another_get_would_tell_nothing_the_image_is_to_blame(etag: str | None) -> None:
    again: list[Task] = []
    with pytest.raises(ImageError) as raised:
        stage(Sizes(), ByteBudget(10**9), [], again, None)(task_with(b"no image", etag))
    assert raised.value.code == "image_not_recognized"
    assert again == []


class Line:
    """A store whose answers are spoiled in one way after the other, and then no more."""

    size_bytes = 0
    etag: str | None = None
    version_id: str | None = None

    def __init__(self, *bodies: bytes) -> None:
        self._bodies = list(bodies)

    def open(self, image: ImageReference, key: str) -> "Line":
        self.body = self._bodies.pop(0)
        self.size_bytes, self.etag = len(self.body), f'"{md5(GOOD)}"'
        return self

    def read(self) -> bytes:
        return self.body


def through(*bodies: bytes) -> tuple[Task, list[Hashable]]:
    """Fetches and prepares, for as often as the task is sent back."""
    fetched: queue.Queue[Task] = queue.Queue()
    account, again, kinds = Account(), list[Task](), list[Hashable]()
    fetch = Fetch(Line(*bodies), 10**6, ByteBudget(10**9), account, fetched, threading.Event())
    prepare = stage(Sizes(), ByteBudget(10**9), kinds, again, None)
    task = task_with(None)
    again.append(task)
    while again:
        fetch(again.pop())
        prepare(fetched.get_nowait())
    return task, kinds


def test_they_are_fetched_until_they_are_whole() -> None:
    task, kinds = through(*SPOILED, GOOD)
    assert kinds == [None]
    assert task.prepared == ("image", 100, 50)


def test_the_same_bytes_twice_are_what_the_store_has() -> None:
    with pytest.raises(ImageError) as raised:
        through(*SPOILED, SPOILED[1])
    assert raised.value.code == "image_not_recognized"
