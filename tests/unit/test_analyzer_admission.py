"""Which records may be worked on when images are suspected of killing workers."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, cast

from consumers.analyzer.admission import Admission
from consumers.analyzer.answers import Answers
from consumers.analyzer.claims import Standing, Suspect
from consumers.analyzer.window import Found, PartitionWindow, Record, Task, Window
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, ModuleIdentity, RecordPosition, Request

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """An admission into a pipeline that only notes what comes, for one partition of two images a record."""

    hands_free = True

    def __init__(self, standing: Standing | None) -> None:
        self.submitted: list[tuple[int, int]] = []
        self.answers = Answers(ModuleIdentity("m", "1"))
        self.window = Window()
        self.window.add("t", 0)
        self.partition = cast(PartitionWindow, self.window.get("t", 0))
        self.partition.standing = standing
        self.admission = Admission(cast(Any, self), self.answers, self.window)

    def submit(self, tasks: Collection[Task]) -> None:
        for task in tasks:
            task.submitted = True
            self.submitted.append(task.position)

    def take(self, offset: int, images: int = 2) -> Record:
        position = RecordPosition("id", "t", 0, offset, NOW)
        request = Request(version=1, request_id="r", image=ImageReference("b", "k"))
        record = Record(position, None, b"", ())
        record.tasks = tuple(
            Task(request, None, position.at(index), self.partition, Found("k"), offset)
            for index in range(images)
        )
        self.partition.append(record)
        self.admission.take(record, self.partition)
        return record

    def answer(self, *tasks: Task) -> None:
        for task in tasks:
            self.answers.succeed(task, [])

    def taken(self) -> list[tuple[int, int]]:
        """What came into the pipeline since the last call."""
        found, self.submitted = self.submitted, []
        return found


def test_everything_comes_in_at_once_where_nobody_is_suspected() -> None:
    bench = Bench(Standing())
    bench.take(0)
    bench.take(1)
    assert bench.taken() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert bench.admission.due() is None


def test_nothing_comes_in_before_the_partition_is_claimed() -> None:
    bench = Bench(None)
    bench.take(0)
    bench.admission.step()
    assert bench.taken() == []
    bench.partition.standing = Standing()
    bench.admission.step()
    assert bench.taken() == [(0, 0), (0, 1)]


def test_a_suspect_waits_until_it_can_be_alone_and_what_follows_waits_for_it() -> None:
    bench = Bench(Standing([Suspect(1, 0)]))
    first, second = bench.take(0), bench.take(1)
    bench.take(2)
    assert bench.taken() == [(0, 0), (0, 1), (1, 1)]
    bench.answer(*first.tasks)
    assert bench.admission.due() is None, "the other image of its record is still at work"
    bench.answer(second.tasks[1])
    trial = bench.admission.due()
    assert trial is not None
    assert trial.place == (1, 0)
    bench.admission.begin(trial)
    assert bench.admission.under_way is trial
    bench.admission.step()
    assert bench.taken() == [(1, 0)]
    assert bench.admission.due() is None
    bench.answer(second.tasks[0])
    assert bench.admission.under_way is None
    bench.admission.step()
    assert bench.taken() == [(2, 0), (2, 1)]


def test_a_suspect_waits_for_what_was_given_up_and_is_still_at_work() -> None:
    bench = Bench(Standing([Suspect(0, 0)]))
    bench.take(0, images=1)
    bench.hands_free = False
    assert bench.admission.due() is None
    bench.hands_free = True
    assert bench.admission.due() is not None


def test_a_suspect_that_is_given_up_in_an_outage_is_not_tried_again() -> None:
    bench = Bench(Standing([Suspect(0, 0)]))
    record = bench.take(0, images=1)
    bench.take(1, images=1)
    trial = bench.admission.due()
    assert trial is not None
    bench.admission.begin(trial)
    record.tasks[0].given_up = True
    bench.admission.step()
    assert bench.admission.due() is None
    assert bench.taken() == [(0, 0), (1, 0)]


def test_suspects_are_tried_one_after_the_other() -> None:
    bench = Bench(Standing([Suspect(0, 0), Suspect(0, 1)]))
    record = bench.take(0)
    for number in range(2):
        trial = bench.admission.due()
        assert trial is not None
        assert trial.place == (0, number)
        bench.admission.begin(trial)
        bench.answer(record.tasks[number])
        bench.admission.step()
    assert bench.admission.due() is None
    assert record.done


def test_the_guilty_are_answered_without_being_tried() -> None:
    bench = Bench(Standing([Suspect(0, 1, deaths=2, code=ErrorCode.MODULE_TIMEOUT)]))
    record = bench.take(0)
    assert bench.taken() == [(0, 0)]
    answer = record.tasks[1].answer
    assert answer is not None
    assert answer.error is not None
    assert answer.error.code == ErrorCode.MODULE_TIMEOUT
    assert record.tasks[1].poison is not None
    assert record.tasks[1].attempts == 2
    bench.take(1)
    assert bench.taken() == [(1, 0), (1, 1)]


def test_suspects_of_a_partition_that_is_gone_hold_nobody_up() -> None:
    bench = Bench(Standing([Suspect(0, 0)]))
    bench.take(0, images=1)
    bench.window.add("t", 1)
    other = cast(PartitionWindow, bench.window.get("t", 1))
    other.standing = Standing()
    bench.window.drop("t", 0)
    bench.admission.step()
    bench.partition = other
    bench.take(5)
    assert bench.taken() == [(5, 0), (5, 1)]
