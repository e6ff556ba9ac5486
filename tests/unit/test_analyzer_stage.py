"""Threads of a stage: how many work, and what becomes of a task that fails."""

import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from consumers.analyzer.account import Account, Report, save
from consumers.analyzer.answers import Answers
from consumers.analyzer.errors import Abandoned
from consumers.analyzer.stage import Stage, TaskQueue
from consumers.analyzer.window import Found, PartitionWindow, Task
from infra.images.errors import ImageError
from schemas.codec import decode_result
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, ModuleIdentity, RecordPosition, Request

POSITION = RecordPosition("id", "t", 0, 1, datetime(2026, 1, 1, tzinfo=UTC))
PATIENCE_S = 10.0


def task(name: str = "r") -> Task:
    request = Request(version=1, request_id=name, image=ImageReference("b", "k"))
    return Task(request, None, POSITION.at(0), PartitionWindow("t", 0), Found("k"))


class Gate:
    """Work that lasts until it is let go, and knows how many threads are in it."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, _: Task) -> None:
        opened = self.opened
        self.inside.release()
        opened.wait(PATIENCE_S)

    def let_go(self) -> None:
        """Ends the work of those who are in it now; those who come later stay."""
        former, self.opened = self.opened, threading.Event()
        former.set()

    def entered(self, count: int) -> bool:
        """Whether this many threads, and no more, come in."""
        came = all(self.inside.acquire(timeout=PATIENCE_S) for _ in range(count))
        return came and not self.inside.acquire(timeout=0.2)


def stage(work: Callable[[Task], None], inbox: TaskQueue, threads: int, ended: list[int]) -> Stage:
    answers = Answers(ModuleIdentity("m", "1"))
    return Stage("s", threads, inbox, work, answers, lambda: ended.append(1))


def test_as_many_threads_work_as_the_stage_is_told() -> None:
    inbox: TaskQueue = queue.Queue()
    gate = Gate()
    made = stage(gate, inbox, 2, [])
    made.start()
    for _ in range(20):
        inbox.put(task())
    assert gate.entered(2)

    made.resize(4)
    assert gate.entered(2), "two more"

    made.resize(1)
    gate.let_go()
    assert gate.entered(1), "three of them rest"
    assert made.alive

    made.resize(3)
    assert gate.entered(2), "two of those that rested"
    made.resize(0)
    gate.let_go()


def test_a_task_that_is_not_handed_on_is_answered_and_counted() -> None:
    ends = {
        "error": ImageError(ErrorCode.IMAGE_CORRUPT, "broken"),
        "bug": ValueError("a bug"),
        "abandoned": Abandoned(),
        "good": None,
    }

    def work(one: Task) -> None:
        error = ends[one.request.request_id]
        if error is not None:
            raise error

    inbox: queue.Queue[Task] = queue.Queue()
    ended: list[int] = []
    made = stage(work, inbox, 1, ended)
    tasks = {name: task(name) for name in ends}
    dropped = task("dropped")
    dropped.partition.clear()
    for one in (dropped, *tasks.values()):
        inbox.put(one)
    made.start()
    deadline = time.monotonic() + PATIENCE_S
    while (inbox.qsize() or len(ended) < 4) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert len(ended) == 4, "all but the good one, the dropped one too"
    assert tasks["good"].answer is None
    assert tasks["abandoned"].answer is None
    codes = {name: decode_result(tasks[name].encoded).error for name in ("error", "bug")}
    assert {name: error.code for name, error in codes.items() if error} == {
        "error": "image_corrupt",
        "bug": "internal_error",
    }


def test_cpu_is_metered_only_where_it_is_asked_for() -> None:
    for with_cpu in (True, False):
        account = Account(with_cpu=with_cpu)
        started = account.infer.start()
        sum(range(100_000))
        account.infer.stop(started)
        assert (account.infer.cost.cpu_s > 0) is with_cpu
        assert account.infer.cost.wall_s > 0


def test_an_account_says_what_each_stage_cost(tmp_path: Path) -> None:
    account = Account()
    started = account.decode.start()
    account.decode.stop(started, calls=0)
    spent_ms = account.decode.stop(account.decode.start())
    for size in (4, 4, 1):
        account.count_batch(size)
    report = account.report({"decode": 2}, max_batch=8)

    assert report.stages["decode"].calls == 1
    assert report.stages["decode"].wall_s >= spent_ms / 1000 >= 0
    assert report.mean_batch == 3.0
    assert report.batches == {4: 2, 1: 1}
    made_up = Report(10.0, 5.0, {"decode": report.stages["decode"]}, {"decode": 2}, {}, 8)
    assert made_up.busy() == {"decode": report.stages["decode"].wall_s / 20}
    assert made_up.mean_batch == 0.0

    save(report, str(tmp_path), worker=3)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("worker-3-")
    assert b'"batches":{"4":2,"1":1}' in file.read_bytes()
