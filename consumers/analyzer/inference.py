"""Stage 3: the module answers batches, on the one thread that owns the device."""

import logging
import sys
import time
import traceback
from collections.abc import Sequence
from threading import Thread
from typing import Any, NamedTuple

from consumers.analyzer.account import Account, Started
from consumers.analyzer.answers import Answers
from consumers.analyzer.batching import Batcher
from consumers.analyzer.ceiling import BatchCeiling, is_out_of_memory
from consumers.analyzer.flight import FlightRecorder
from consumers.analyzer.window import Task
from infra.images.errors import ImageError
from modules.answers import Answer, read_answers
from modules.contract import Module, works_ahead
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

MEMORY_PAUSES_S = (0.1, 1.0, 5.0)
"""Between the attempts of one image alone that finds no memory: another program may give some back."""


class DeviceOutOfMemory(AnalysisError):
    """Not even one image finds memory on the device."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            ErrorCode.DEVICE_OUT_OF_MEMORY,
            f"there is no memory for a single image, after {len(MEMORY_PAUSES_S)} more attempts: {error}",
        )


class DeviceFailed(AnalysisError):
    """A call ended in an error after which the device refuses all others of this process."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(ErrorCode.DEVICE_FAILED, f"the device failed: {error}")


class Submitted(NamedTuple):
    """A batch at which the device works."""

    tasks: list[Task]
    handle: Any
    started: Started


class Failure(NamedTuple):
    """A batch that could not be submitted or collected."""

    batch: Sequence[Task]
    started: Started
    error: BaseException


class Inference:
    """Takes batches, and answers every task of them.

    Where the module can leave its device at work, the next batch, if it is full, is submitted before the
    answers of this one are collected and written, so that the device does not wait for either.
    """

    def __init__(
        self,
        module: Module[Any],
        batcher: Batcher[Task],
        ceiling: BatchCeiling,
        answers: Answers,
        account: Account,
        flight: FlightRecorder,
    ) -> None:
        self.failure: AnalysisError | None = None
        """Why the thread ended, where it did."""
        self._module: Any = module
        self._asynchronous = works_ahead(module)
        self._batcher = batcher
        self._ceiling = ceiling
        self._answers = answers
        self._account = account
        self._flight = flight
        self._submitted: Submitted | None = None
        self._thread = Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Starts the thread; it ends with the process, or with a `failure`."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                self.step()
        except AnalysisError as error:
            self.failure = error

    def step(self) -> None:
        """Takes the next batch, and answers it; or submits it, and answers the one before."""
        former = self._submitted
        batch = self._batcher.take() if former is None else self._batcher.take_full()
        batch = [task for task in batch if not _freed(task)]
        if batch:
            self._account.count_batch(len(batch))
        if batch and not self._asynchronous:
            self.answer(batch)
            return
        failures: list[Failure] = []
        self._submitted = self._submit(batch, failures) if batch else None
        if former is not None:
            self._collect(former, failures)
        if failures and self._submitted is not None:
            # `infer` must not come between a batch's submission and its collection.
            self._collect(self._submitted, failures)
            self._submitted = None
        for failure in failures:
            self._divide(*failure)

    def _submit(self, batch: list[Task], failures: "list[Failure]") -> Submitted | None:
        started = self._account.infer.start()
        self._flight.hold(batch)
        try:
            handle = self._module.submit([task.prepared for task in batch])
        except BaseException as error:  # noqa: BLE001 - as in answer()
            self._flight.release(batch)
            failures.append(Failure(batch, started, error))
            return None
        self._account.infer.stop(started, calls=0)
        return Submitted(batch, handle, started)

    def _collect(self, submitted: Submitted, failures: "list[Failure]") -> None:
        batch, handle, submitted_at = submitted
        started = self._account.infer.start()
        self._flight.hold(batch)
        try:
            outputs = read_answers(self._module.collect(handle), len(batch))
        except BaseException as error:  # noqa: BLE001 - as in answer()
            failures.append(Failure(batch, submitted_at, error))
            return
        finally:
            self._flight.release(batch)
        self._account.infer.stop(started)
        self._succeed(batch, outputs, submitted_at)

    def answer(self, batch: Sequence[Task]) -> None:
        """Answers every task of a batch; one that makes the module raise harms no other.

        A batch that raises, or is answered against the contract, is halved until the guilty image is alone.

        Raises:
            DeviceOutOfMemory: there is no memory for even one image, which is not the image's fault.
            DeviceFailed: nor is this.
        """
        started = self._account.infer.start()
        try:
            outputs = self._infer(batch)
        except BaseException as raised:  # noqa: BLE001 - a module may raise anything, SystemExit too
            error = raised
        else:
            self._account.infer.stop(started)
            self._succeed(batch, outputs, started)
            return
        self._divide(batch, started, error)

    def _infer(self, batch: Sequence[Task]) -> Sequence[Answer]:
        self._flight.hold(batch)
        try:
            return read_answers(self._module.infer([task.prepared for task in batch]), len(batch))
        finally:
            self._flight.release(batch)

    def _divide(self, batch: Sequence[Task], started: Started, error: BaseException) -> None:
        if is_out_of_memory(error):
            self._answer_with_less_memory(batch, error)
        elif _is_of_device(error):
            # On record again, until the process has ended: one of these may be the cause.
            self._flight.hold(batch)
            raise DeviceFailed(error)
        elif len(batch) == 1:
            self._fail(batch[0], started, error)
        else:
            middle = len(batch) // 2
            self.answer(batch[:middle])
            self.answer(batch[middle:])

    def _answer_with_less_memory(self, batch: Sequence[Task], error: BaseException) -> None:
        # The traceback's frames hold the tensors of the failed attempt.
        error.__traceback__ = None
        _empty_cache()
        if len(batch) == 1:
            self._answer_when_there_is_memory(batch[0], error)
            return
        self._ceiling.lower(len(batch))
        size = self._ceiling.current
        logger.warning("no memory for a batch of %d images; at most %d from here on", len(batch), size)
        for start in range(0, len(batch), size):
            self.answer(batch[start : start + size])

    def _answer_when_there_is_memory(self, task: Task, error: BaseException) -> None:
        for pause_s in MEMORY_PAUSES_S:
            time.sleep(pause_s)
            started = self._account.infer.start()
            try:
                outputs = self._infer([task])
            except BaseException as raised:  # noqa: BLE001 - as in answer()
                if not is_out_of_memory(raised):
                    self._divide([task], started, raised)
                    return
                raised.__traceback__ = None
                _empty_cache()
            else:
                self._account.infer.stop(started)
                self._succeed([task], outputs, started)
                return
        self._flight.hold([task])
        raise DeviceOutOfMemory(error)

    def _succeed(self, batch: Sequence[Task], outputs: Sequence[Answer], started: Started) -> None:
        spent_ms = (time.monotonic() - started.wall_s) * 1000
        for task, detections in zip(batch, outputs, strict=True):
            task.spent.infer = spent_ms
            try:
                self._answers.succeed(task, detections)
            except Exception as error:  # noqa: BLE001 - one odd answer must not end the thread
                self._fail(task, started, error)

    def _fail(self, task: Task, started: Started, error: BaseException) -> None:
        task.spent.infer = (time.monotonic() - started.wall_s) * 1000
        if isinstance(error, AnalysisError):
            self._answers.fail(task, error)
            return
        logger.warning("request %s: the module raised", task.request.request_id, exc_info=error)
        # Not by str(), which may be the module's own and raise too.
        message = f"infer raised {''.join(traceback.format_exception_only(error)).strip()}"
        self._answers.fail(task, ImageError(ErrorCode.MODULE_ERROR, message))


def _freed(task: Task) -> bool:
    """Lets go of a task that nobody waits for any more."""
    if not task.abandoned:
        return False
    task.free()
    return True


def _is_of_device(error: BaseException) -> bool:
    """Whether torch says that a call on an accelerator failed, which spoils the process's context there."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)


def _empty_cache() -> None:
    """Gives back what torch keeps of the device's memory, where there is such a device."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
