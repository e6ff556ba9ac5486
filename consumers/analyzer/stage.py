"""A stage of the pipeline: threads between a queue and the next one."""

import logging
import queue
import threading
from collections.abc import Callable

from consumers.analyzer.answers import Answers
from consumers.analyzer.errors import Abandoned, ImageError
from consumers.analyzer.window import Task
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

TaskQueue = queue.Queue[Task]


class Stage:
    """Threads that take tasks from `inbox` and do `work` on them, which hands them on.

    An AnalysisError that `work` raises is the task's answer. Anything else is a bug of ours: it is logged
    with its traceback and answers the task too, since an exception must not take the thread with it.
    """

    def __init__(
        self, name: str, threads: int, inbox: TaskQueue, work: Callable[[Task], None], answers: Answers
    ) -> None:
        self._inbox = inbox
        self._work = work
        self._answers = answers
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Starts the threads; they end with the process."""
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every thread still runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            task = self._inbox.get()
            if task.abandoned:
                task.free()
            else:
                self._handle(task)

    def _handle(self, task: Task) -> None:
        try:
            self._work(task)
        except Abandoned:
            task.free()
        except AnalysisError as error:
            self._answers.fail(task, error)
        except BaseException as error:
            logger.exception("request %s: a bug in the analyzer", task.request.request_id)
            self._answers.fail(task, ImageError(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}"))
