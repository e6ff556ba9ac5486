"""A stage of the pipeline: threads between a queue and the next one."""

import logging
import queue
import threading
from collections.abc import Callable

from consumers.analyzer.answers import Answers
from consumers.analyzer.errors import Abandoned
from consumers.analyzer.refilling import RefillQueue
from consumers.analyzer.window import Task
from infra.images.errors import ImageError
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

TaskQueue = queue.Queue[Task] | RefillQueue[Task]


class Stage:
    """Threads that take tasks from `inbox` and do `work` on them, which hands them on.

    An AnalysisError that `work` raises is the task's answer. Anything else is a bug of ours: it is logged
    with its traceback and answers the task too, since an exception must not take the thread with it.

    Args:
        ended: told of each task that `work` did not hand on.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        inbox: TaskQueue,
        work: Callable[[Task], None],
        answers: Answers,
        ended: Callable[[], None],
    ) -> None:
        self._name = name
        self._inbox = inbox
        self._work = work
        self._answers = answers
        self._ended = ended
        self._size = threads
        self._resized = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the threads; they end with the process."""
        self.resize(self._size)

    def resize(self, size: int) -> None:
        """Lets `size` threads work: starts what is missing; those beyond rest once they have finished."""
        with self._resized:
            self._size = size
            self._resized.notify_all()
        for number in range(len(self._threads), size):
            thread = threading.Thread(
                target=self._run, args=(number,), name=f"{self._name}-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    @property
    def size(self) -> int:
        """How many threads may work now."""
        return self._size

    @property
    def alive(self) -> bool:
        """Whether every thread still runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self, number: int) -> None:
        while True:
            if number >= self._size:
                with self._resized:
                    self._resized.wait_for(lambda: number < self._size)
            task = self._inbox.get()
            if task.abandoned:
                task.free()
                self._ended()
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
        else:
            return
        self._ended()
