"""Stage 3: batches for the device, and what the module makes of them."""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from consumers.analyzer.answers import Answers
from consumers.analyzer.errors import ImageError
from consumers.analyzer.stage import TaskQueue
from consumers.analyzer.window import Task
from modules.answers import read_answers
from modules.contract import Module
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)


class Batcher:
    """Closes a batch at `max_batch` tasks, or `max_wait_s` after its first."""

    def __init__(
        self,
        inbox: TaskQueue,
        max_batch: int,
        max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._clock = clock

    def take(self) -> list[Task]:
        """Waits for the next batch: at least one task, in order of arrival."""
        batch = [self._inbox.get()]
        closes_at = self._clock() + self._max_wait_s
        while len(batch) < self._max_batch:
            wait_s = closes_at - self._clock()
            try:
                batch.append(self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait())
            except queue.Empty:
                break
        return batch


class Inference:
    """The one thread that owns the device."""

    def __init__(self, module: Module[Any], batcher: Batcher, answers: Answers) -> None:
        self._module = module
        self._batcher = batcher
        self._answers = answers
        self._thread = Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Starts the thread; it ends with the process."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            batch = []
            for task in self._batcher.take():
                if task.abandoned:
                    task.free()
                else:
                    batch.append(task)
            if batch:
                self.answer(batch)

    def answer(self, batch: Sequence[Task]) -> None:
        """Answers every task of a batch; one that makes the module raise harms no other.

        A batch that raises, or is answered against the contract, is halved until the guilty image is alone.
        """
        started = time.monotonic()
        try:
            outputs = read_answers(self._module.infer([task.prepared for task in batch]), len(batch))
        except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too
            if len(batch) == 1:
                self._fail(batch[0], started, error)
            else:
                middle = len(batch) // 2
                self.answer(batch[:middle])
                self.answer(batch[middle:])
            return
        spent_ms = (time.monotonic() - started) * 1000
        for task, detections in zip(batch, outputs, strict=True):
            task.spent.infer = spent_ms
            try:
                self._answers.succeed(task, detections)
            except Exception as error:  # noqa: BLE001 - one odd answer must not end the thread
                self._fail(task, started, error)

    def _fail(self, task: Task, started: float, error: BaseException) -> None:
        task.spent.infer = (time.monotonic() - started) * 1000
        if isinstance(error, AnalysisError):
            self._answers.fail(task, error)
            return
        logger.warning("request %s: the module raised", task.request.request_id, exc_info=error)
        message = f"infer raised {type(error).__name__}: {error}"
        self._answers.fail(task, ImageError(ErrorCode.MODULE_ERROR, message))
