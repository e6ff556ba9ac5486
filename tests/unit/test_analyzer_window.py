from datetime import UTC, datetime

from consumers.analyzer.claims import Standing
from consumers.analyzer.window import Found, PartitionWindow, Record, Task, Window
from schemas.messages import (
    AnalyzedImage,
    ImageReference,
    ModuleIdentity,
    RecordPosition,
    Request,
    Result,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(window: PartitionWindow, offset: int, tasks: int = 1, size_bytes: int = 10) -> Record:
    position = RecordPosition("id", window.topic, window.partition, offset, NOW)
    request = Request(version=1, request_id=f"r{offset}", image=ImageReference("b", "k"))
    made = Record(position, None, b"x" * size_bytes, [])
    made.tasks = tuple(Task(request, None, position.at(i), window, Found("k")) for i in range(tasks))
    window.append(made)
    return made


def answer(task: Task) -> None:
    task.answer = Result(
        request_id=task.request.request_id,
        status="ok",
        module=ModuleIdentity("m", "1"),
        image=AnalyzedImage(bucket="b", key="k"),
        source=task.source,
        analyzed_at=NOW,
    )


def test_only_the_prefix_without_gaps_is_finished() -> None:
    window = PartitionWindow("t", 0, standing=Standing())
    records = [record(window, offset) for offset in range(5)]
    for done in (0, 1, 3):
        answer(records[done].tasks[0])
    assert window.finished() == records[:2]


def test_a_record_is_done_when_all_its_tasks_are() -> None:
    window = PartitionWindow("t", 0, standing=Standing())
    made = record(window, 7, tasks=3)
    for task in made.tasks[:2]:
        answer(task)
    assert window.finished() == []
    answer(made.tasks[2])
    assert window.finished() == [made]


def test_a_record_without_tasks_is_done_and_weighs_one() -> None:
    window = PartitionWindow("t", 0, standing=Standing())
    made = record(window, 1, tasks=0)
    assert window.finished() == [made]
    assert window.weight == 1


def test_forgetting_keeps_weight_and_bytes_right() -> None:
    window = PartitionWindow("t", 0, standing=Standing())
    for offset in (3, 5, 9):
        record(window, offset, tasks=2, size_bytes=100)
    window.forget_below(6)
    assert [kept.position.offset for kept in window.records] == [9]
    assert (window.weight, window.size_bytes) == (2, 100)


def test_a_partition_that_is_assigned_again_starts_afresh_and_its_former_work_is_abandoned() -> None:
    owned = Window()
    owned.add("t", 0)
    first = owned.get("t", 0)
    assert first is not None
    made = record(first, 1)
    owned.add("t", 0)
    assert made.tasks[0].abandoned
    answer(made.tasks[0])
    assert owned.finished() == {}


def test_a_dropped_partition_is_not_owned() -> None:
    owned = Window()
    owned.add("t", 0)
    owned.add("t", 1)
    owned.drop("t", 0)
    owned.drop("t", 5)
    assert owned.get("t", 0) is None
    assert [window.partition for window in owned] == [1]


def test_what_a_transaction_committed_is_forgotten_and_no_more() -> None:
    owned = Window()
    owned.add("t", 0)
    window = owned.get("t", 0)
    assert window is not None
    window.standing = Standing()
    records = [record(window, offset) for offset in range(3)]
    answer(records[0].tasks[0])
    finished = owned.finished()
    answer(records[1].tasks[0])
    owned.forget(finished.items())
    assert list(window.records) == records[1:]
    assert window.next_offset == 1
    assert not owned.drained()


def test_work_that_an_outage_keeps_does_not_hold_up_a_stop() -> None:
    owned = Window()
    owned.add("t", 0)
    window = owned.get("t", 0)
    assert window is not None
    records = [record(window, offset) for offset in range(2)]
    answer(records[1].tasks[0])
    assert not owned.drained()
    records[0].tasks[0].given_up = True
    assert owned.drained()


def test_what_turns_out_to_be_committed_is_where_the_next_commit_begins() -> None:
    window = PartitionWindow("t", 0, standing=Standing())
    for offset in range(100, 110):
        record(window, offset)
    window.forget_below(110)
    assert not window.records
    assert window.next_offset == 110
    window.forget_below(105)
    assert window.next_offset == 110
