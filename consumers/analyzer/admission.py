"""Which records may be worked on: all at once, but for images with which a worker has died."""

from collections import deque
from typing import NamedTuple

from consumers.analyzer.answers import Answers
from consumers.analyzer.claims import Place, Suspect
from consumers.analyzer.pipeline import Pipeline
from consumers.analyzer.window import PartitionWindow, Record, Task, Window
from schemas.errors import AnalysisError, ErrorCode

_SENTENCES = {
    ErrorCode.MODULE_CRASHED: "{uri}: {deaths} workers died with this image, the last with it alone",
    ErrorCode.MODULE_TIMEOUT: "{uri}: the work on this image does not end; {deaths} workers were stopped",
}


class Trial(NamedTuple):
    """A suspect that is to be tried alone."""

    window: PartitionWindow
    task: Task

    @property
    def place(self) -> Place:
        """Where it is in its partition."""
        return self.task.position


class Admission:
    """Lets records into the pipeline.

    A suspect waits until nothing else is under way, and is then alone in the process: if that dies again,
    there is no doubt about the cause. Until the last suspect is answered, what comes later is held back.
    """

    def __init__(self, pipeline: Pipeline, answers: Answers, window: Window) -> None:
        self._pipeline = pipeline
        self._answers = answers
        self._window = window
        self._trials: deque[Trial] = deque()
        self._begun: Trial | None = None

    def take(self, record: Record, window: PartitionWindow) -> None:
        """Takes the next record of a partition."""
        if not window.claimed or window.held or self._trials:
            window.held.append(record)
        else:
            self._admit(record, window)

    def step(self) -> None:
        """Lets in what need not be held any longer."""
        while self._trials and self._over(self._trials[0].task):
            self._trials.popleft()
        for window in self._window:
            while window.held and window.claimed and not self._trials:
                self._admit(window.held.popleft(), window)

    def due(self) -> Trial | None:
        """The suspect whose turn it is; None while there is none, or anything is under way."""
        # What was given up with its partition may still be at work.
        if not self._trials or self._window.under_way or not self._pipeline.hands_free:
            return None
        return self._trials[0]

    def begin(self, trial: Trial) -> None:
        """Tries a suspect, of which its partition's claim says so already."""
        self._begun = trial
        self._pipeline.submit([trial.task])

    @property
    def under_way(self) -> Trial | None:
        """The suspect that is alone in the process now."""
        begun = self._begun
        return None if begun is None or self._over(begun.task) else begun

    def _admit(self, record: Record, window: PartitionWindow) -> None:
        assert window.standing is not None
        harmless = []
        for task in record.tasks:
            suspect = window.standing.suspect(task.position)
            if suspect is None:
                harmless.append(task)
                continue
            task.attempts += suspect.deaths
            if suspect.code is None:
                self._trials.append(Trial(window, task))
            else:
                self._condemn(task, suspect, suspect.code)
        self._pipeline.submit(harmless)

    def _condemn(self, task: Task, suspect: Suspect, code: ErrorCode) -> None:
        task.attempts = suspect.deaths
        sentence = _SENTENCES.get(code, _SENTENCES[ErrorCode.MODULE_CRASHED])
        task.poison = AnalysisError(code, sentence.format(uri=task.uri, deaths=suspect.deaths))
        self._answers.fail(task, task.poison)

    @staticmethod
    def _over(task: Task) -> bool:
        return task.answer is not None or task.given_up or task.abandoned
