from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from consumers.analyzer.account import Account
from consumers.analyzer.answers import Answers
from consumers.analyzer.batching import Batcher
from consumers.analyzer.ceiling import BatchCeiling
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.inference import DeviceFailed, DeviceOutOfMemory, Inference
from consumers.analyzer.window import Found, PartitionWindow, Task
from schemas.messages import (
    Box,
    Detection,
    ImageReference,
    Label,
    ModuleIdentity,
    RecordPosition,
    Request,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def task(number: int, scale: tuple[float, float] = (1.0, 1.0)) -> Task:
    position = RecordPosition("id", "t", 0, number, NOW)
    made = Task(
        Request(version=1, request_id=f"r{number}", image=ImageReference("b", "k"), attributes={"n": "1"}),
        None,
        position.at(0),
        PartitionWindow("t", 0),
        Found("k", width_px=100, height_px=50),
    )
    made.prepared = number
    made.scale = scale
    return made


def detection(box: tuple[float, float, float, float] = (1, 2, 3, 4), score: float = 0.5) -> Detection:
    return Detection(Box(*box), (Label("thing", score),))


class Scripted:
    """A module whose answer to each prepared item is looked up; an exception is raised."""

    name, version = "scripted", "1"

    def __init__(self, answers: dict[int, Any]) -> None:
        self.answers = answers
        self.batches: list[list[int]] = []

    def load(self, device: str) -> None: ...

    def preprocess(self, image: Any) -> int:
        return 0

    def infer(self, batch: Sequence[int]) -> Any:
        self.batches.append(list(batch))
        found = [self.answers.get(item, []) for item in batch]
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        return found


def inference(module: Any, waiting: Sequence[Task] = (), max_batch: int = 8) -> Inference:
    ceiling = BatchCeiling(max_batch)
    batcher: Batcher[Task] = Batcher(0, 1000, lambda: ceiling.current, lambda: False)
    for one in waiting:
        batcher.put(None, one)
    answers = Answers(ModuleIdentity("scripted", "1"))
    return Inference(module, batcher, ceiling, answers, Account(), FlightRecorder(None, 100, 60))


def test_the_one_image_that_raises_fails_alone() -> None:
    module = Scripted({5: ValueError("no good"), 3: [detection()]})
    tasks = [task(number) for number in range(8)]
    inference(module).answer(tasks)
    answers = [made.answer for made in tasks]
    assert [answer.status for answer in answers if answer] == ["ok"] * 5 + ["failed"] + ["ok"] * 2
    assert answers[5] is not None
    assert answers[5].error is not None
    assert answers[5].error.code == "module_error"
    assert "ValueError: no good" in answers[5].error.message
    assert answers[3] is not None
    assert answers[3].detections == (detection(),)


def test_every_image_fails_when_every_image_raises() -> None:
    tasks = [task(number) for number in range(5)]
    inference(Scripted({number: RuntimeError("x") for number in range(5)})).answer(tasks)
    assert [made.answer.status for made in tasks if made.answer] == ["failed"] * 5


@pytest.mark.parametrize(
    "output",
    [
        [detection((float("nan"), 0, 1, 1))],
        [detection((0, 0, float("inf"), 1))],
        [detection((0, 0, -1, 1))],
        [detection(score=1.5)],
        [detection(score=float("nan"))],
        [("not", "a", "detection")],
        None,
        [Detection(Box(0, 0, 1, 1), None)],  # type: ignore[arg-type]
    ],
)
def test_an_answer_against_the_contract_fails_its_image_alone(output: Any) -> None:
    tasks = [task(0), task(1)]
    inference(Scripted({0: output})).answer(tasks)
    first, second = (made.answer for made in tasks)
    assert first is not None
    assert second is not None
    assert first.error is not None
    assert first.error.code == "module_output_invalid"
    assert second.status == "ok"


def test_an_answer_of_another_length_is_nobodys() -> None:
    class Short(Scripted):
        def infer(self, batch: Sequence[int]) -> Any:
            return [[]] * (len(batch) - 1)

    tasks = [task(0), task(1)]
    inference(Short({})).answer(tasks)
    assert [made.answer.error.code for made in tasks if made.answer and made.answer.error] == [
        "module_output_invalid"
    ] * 2


def test_boxes_are_scaled_to_the_original_and_kept_inside_it() -> None:
    made = task(0, scale=(2.0, 4.0))
    inference(Scripted({0: [detection((10, 5, 20, 5)), detection((-3, -3, 1000, 1000))]})).answer([made])
    assert made.answer is not None
    assert [found.box for found in made.answer.detections] == [Box(20, 20, 40, 20), Box(0, 0, 100, 50)]


def test_the_answer_carries_the_request() -> None:
    made = task(4)
    inference(Scripted({})).answer([made])
    assert made.answer is not None
    assert made.answer.request_id == "r4"
    assert made.answer.source == made.source
    assert made.answer.attributes == {"n": "1"}
    assert made.prepared is None


class Small(Scripted):
    """A module whose device holds `room` images at a time."""

    def __init__(self, room: int, error: BaseException) -> None:
        super().__init__({})
        self.room = room
        self.error = error

    def infer(self, batch: Sequence[int]) -> Any:
        if len(batch) > self.room:
            self.batches.append(list(batch))
            raise self.error
        return super().infer(batch)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
    ],
)
def test_a_batch_that_finds_no_memory_is_halved_and_nobody_is_blamed(error: BaseException) -> None:
    module = Small(3, error)
    tasks = [task(number) for number in range(16)]
    work = inference(module, tasks, max_batch=8)

    for _ in range(2 + 4):
        if any(made.answer is None for made in tasks):
            work.step()

    assert [made.answer.status for made in tasks if made.answer] == ["ok"] * 16
    assert [len(batch) for batch in module.batches[-4:]] == [2] * 4, "what was learnt is remembered"


def test_an_image_alone_without_memory_ends_the_worker_and_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.analyzer.inference.MEMORY_PAUSES_S", (0.0, 0.0))
    module, made = Small(0, MemoryError("nothing left")), task(1)
    with pytest.raises(DeviceOutOfMemory, match="nothing left") as raised:
        inference(module).answer([made])
    assert raised.value.code == "device_out_of_memory"
    assert made.answer is None
    assert len(module.batches) == 3


class Slow(Scripted):
    """A module whose device works by itself; remembers the order of calls."""

    def __init__(self, answers: dict[int, Any], fails_at: str = "") -> None:
        super().__init__(answers)
        self.fails_at = fails_at
        self.calls: list[str] = []

    def infer(self, batch: Sequence[int]) -> Any:
        self.calls.append(f"infer {batch[0]}")
        return super().infer(batch)

    def submit(self, batch: Sequence[int]) -> list[int]:
        self.calls.append(f"submit {batch[0]}")
        if self.fails_at == "submit":
            raise RuntimeError("submit")
        return list(batch)

    def collect(self, handle: list[int]) -> Any:
        self.calls.append(f"collect {handle[0]}")
        if self.fails_at == "collect":
            raise RuntimeError("collect")
        return super().infer(handle)


def test_the_next_batch_is_submitted_before_this_one_is_collected() -> None:
    module = Slow({})
    tasks = [task(number) for number in range(6)]
    work = inference(module, tasks, max_batch=2)
    for _ in range(4):
        work.step()
    assert module.calls == ["submit 0", "submit 2", "collect 0", "submit 4", "collect 2", "collect 4"]
    assert all(made.answer is not None and made.answer.status == "ok" for made in tasks)


@pytest.mark.parametrize("fails_at", ["submit", "collect"])
def test_a_batch_that_fails_on_its_way_is_divided(fails_at: str) -> None:
    module = Slow({2: ValueError("no good")}, fails_at)
    tasks = [task(number) for number in range(4)]
    work = inference(module, tasks, max_batch=4)
    for _ in range(2 if fails_at == "collect" else 1):
        work.step()
    assert [made.answer.status for made in tasks if made.answer] == ["ok", "ok", "failed", "ok"]


def test_nothing_is_inferred_while_a_batch_is_at_the_device() -> None:
    module = Slow({1: ValueError("no good")})
    tasks = [task(number) for number in range(4)]
    work = inference(module, tasks, max_batch=2)
    for _ in range(2):
        work.step()
    assert module.calls == ["submit 0", "submit 2", "collect 0", "collect 2", "infer 0", "infer 1"]
    assert [made.answer.status for made in tasks if made.answer] == ["ok", "failed", "ok", "ok"]


def test_a_failed_device_is_no_images_fault() -> None:
    torch = pytest.importorskip("torch")
    tasks = [task(0), task(1)]
    with pytest.raises(DeviceFailed, match="illegal memory access") as raised:
        inference(Scripted({1: torch.AcceleratorError("an illegal memory access")})).answer(tasks)
    assert raised.value.code == "device_failed"
    assert [made.answer for made in tasks] == [None, None]


def test_an_error_that_cannot_be_printed_fails_its_image_alone() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    tasks = [task(0), task(1)]
    inference(Scripted({0: Unspeakable()})).answer(tasks)
    assert [made.answer.status for made in tasks if made.answer] == ["failed", "ok"]
    assert tasks[0].answer is not None
    assert tasks[0].answer.error is not None
    assert "Unspeakable" in tasks[0].answer.error.message


def test_abandoned_tasks_are_not_inferred() -> None:
    module, tasks = Scripted({}), [task(0), task(1)]
    tasks[0].partition.clear()
    inference(module, tasks).step()
    assert module.batches == [[1]]
