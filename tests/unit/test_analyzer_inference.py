import queue
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.analyzer.answers import Answers
from consumers.analyzer.inference import Batcher, Inference
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


def inference(module: Any) -> Inference:
    return Inference(module, Batcher(queue.Queue(), 8, 0), Answers(ModuleIdentity("scripted", "1")))


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


class Clock:
    """Moves only when told to, or by waiting on the queue it belongs to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedQueue(queue.Queue[Task]):
    """A queue to which items come at given times of a fake clock."""

    def __init__(self, clock: Clock, arrivals: list[float]) -> None:
        super().__init__()
        self.clock = clock
        self.arrivals = [(at, task(number)) for number, at in enumerate(arrivals)]

    def get(self, block: bool = True, timeout: float | None = None) -> Task:
        assert self.arrivals or timeout is not None or not block, "would wait for ever"
        at, item = self.arrivals[0] if self.arrivals else (float("inf"), task(0))
        limit = (
            self.clock.now if not block else self.clock.now + (float("inf") if timeout is None else timeout)
        )
        if at > limit:
            self.clock.now = limit
            raise queue.Empty
        self.clock.now = max(self.clock.now, at)
        self.arrivals.pop(0)
        return item


def sizes(arrivals: list[float], max_batch: int, max_wait_s: float) -> list[int]:
    clock = Clock()
    inbox = TimedQueue(clock, arrivals)
    batcher = Batcher(inbox, max_batch, max_wait_s, clock)
    found = []
    while inbox.arrivals:
        found.append(len(batcher.take()))
    return found


def test_a_batch_closes_when_it_is_full() -> None:
    assert sizes([0.0] * 10, max_batch=4, max_wait_s=1.0) == [4, 4, 2]


def test_a_batch_closes_when_its_first_image_has_waited_long_enough() -> None:
    assert sizes([0.0, 0.004, 0.009, 0.011, 0.5], max_batch=10, max_wait_s=0.01) == [3, 1, 1]


def test_without_a_wait_a_batch_takes_what_is_there() -> None:
    assert sizes([0.0, 0.0, 0.1], max_batch=10, max_wait_s=0) == [2, 1]


def test_a_batch_keeps_the_order_of_arrival() -> None:
    clock = Clock()
    batch = Batcher(TimedQueue(clock, [0.0] * 5), 5, 1.0, clock).take()
    assert [made.source.offset for made in batch] == [0, 1, 2, 3, 4]
