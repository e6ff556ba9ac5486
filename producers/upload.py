"""One run of `analysis upload`: send everything, then wait for the answers where asked to."""

import queue
import time
from collections.abc import Callable, Sequence

import msgspec

from infra.exit_codes import ExitCode
from infra.lifecycle import StopSignals
from producers.answers import Answer, AnswerReader, Refusal
from producers.client import AnalysisClient
from producers.journal import Journal
from producers.output import UploadRecord, UploadStatus
from producers.sender import Dispatch, Sender, begin
from producers.sources import ImageSource, as_text
from schemas.errors import AnalysisError, ErrorCode
from schemas.messages import Failure

_POLL_S = 0.1
_LAST_ACKNOWLEDGEMENTS_S = 5.0
_OUTAGES = {
    ErrorCode.KAFKA_UNAVAILABLE,
    ErrorCode.TOPIC_NOT_FOUND,
    ErrorCode.S3_UNAVAILABLE,
    ErrorCode.BUCKET_NOT_FOUND,
    ErrorCode.OBJECT_ACCESS_DENIED,
}
"""Failures that every further file would meet as well: the run ends, and can be continued later."""


class UploadOptions(msgspec.Struct, frozen=True):
    """How to send.

    `timeout_s` bounds the time without any progress while answers are waited for.
    """

    modules: tuple[str, ...] = ()
    concurrency: int = 8
    wait: bool = False
    timeout_s: float = 60.0


class Tally(msgspec.Struct):
    """Counts of a run: files whose request is published, how many of those by an earlier run, and so on."""

    total: int
    sent: int = 0
    earlier: int = 0
    not_sent: int = 0
    ok: int = 0
    failed: int = 0
    unanswered: int = 0
    interrupted: bool = False

    @property
    def completed(self) -> bool:
        """Whether running the command again would have nothing left to do."""
        return self.sent == self.total and not self.interrupted and not self.unanswered

    def done(self, wait: bool) -> int:
        """How many files nothing more is to be done for."""
        return self.not_sent + (self.ok + self.failed + self.unanswered if wait else self.sent)

    def summary(self) -> str:
        """The counts that matter, in words."""
        counts = {
            "sent": self.sent - self.earlier,
            "sent before": self.earlier,
            "not sent": self.not_sent,
            "ok": self.ok,
            "failed": self.failed,
            "unanswered": self.unanswered,
        }
        words = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to send"
        if not self.interrupted:
            return words
        return f"interrupted: {words} of {self.total}; the same command goes on from here"

    @property
    def exit_code(self) -> ExitCode:
        """0 only if everything was sent, and answered well where answers were waited for."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.OK if self.completed and not self.failed else ExitCode.FAILED


class Upload:
    """Sends sources through a client, once each over all runs that share a journal.

    Args:
        report: called with each record to print, in the thread that runs.
        progress: called after each step with the counts so far.
    """

    def __init__(
        self,
        client: AnalysisClient,
        journal: Journal,
        options: UploadOptions,
        report: Callable[[UploadRecord], None],
        progress: Callable[[Tally], None],
    ) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        self._report = report
        self._progress = progress
        self._sender = Sender(client, journal, options.modules)
        self._awaited: dict[str, _Awaited] = {}
        self._early: dict[str, list[Answer]] = {}
        self._tally = Tally(0)

    def run(self, sources: Sequence[ImageSource]) -> Tally:
        """Sends, waits, and returns the counts; SIGINT and SIGTERM end it early.

        Raises:
            AnalysisError: Kafka or the object store is away or lacks what it needs: nothing can be sent.
        """
        self._tally = Tally(len(sources))
        begun = begin(self._journal, self._client.kafka)
        offsets = {(topic, partition): offset for topic, partition, offset in begun.answers}
        answers = AnswerReader(self._client.kafka).open(offsets) if self._options.wait else None
        try:
            with StopSignals() as signals:
                self._sender.start(sources, self._options.concurrency)
                self._loop(signals, answers)
                self._tally.interrupted = signals.stopping.is_set()
        finally:
            self._stop()
            if answers is not None:
                answers.close()
        if self._take_dispatches(0):
            self._progress(self._tally)
        return self._tally

    def _loop(self, signals: StopSignals, answers: AnswerReader | None) -> None:
        progress_at = time.monotonic()
        while not self._finished and not signals.stopping.is_set():
            moved = self._take_dispatches(_POLL_S if answers is None else 0)
            answer = None if answers is None else answers.poll(_POLL_S, self._sender.request_ids)
            if answer is not None:
                self._take_answer(answer)
            if moved or answer is not None:
                progress_at = time.monotonic()
                self._progress(self._tally)
            elif self._all_dispatched and time.monotonic() - progress_at > self._options.timeout_s:
                self._give_up()

    @property
    def _all_dispatched(self) -> bool:
        return self._tally.sent + self._tally.not_sent == self._tally.total

    @property
    def _finished(self) -> bool:
        return self._all_dispatched and not self._awaited

    def _take_dispatches(self, timeout_s: float) -> bool:
        """Handles what the sender has done; whether that was anything."""
        taken = more = self._take_dispatch(timeout_s)
        while more:
            more = self._take_dispatch(0)
        return taken

    def _take_dispatch(self, timeout_s: float) -> bool:
        try:
            dispatch = self._sender.dispatches.get(timeout=timeout_s) if timeout_s else self._next_dispatch()
        except queue.Empty:
            return False
        if dispatch.error is not None:
            self._not_sent(dispatch, dispatch.error)
            return True
        self._tally.sent += 1
        self._tally.earlier += dispatch.earlier
        if not self._options.wait:
            self._report(_record(dispatch, "already_sent" if dispatch.earlier else "sent"))
        elif dispatch.request_id is not None:
            self._awaited[dispatch.request_id] = _Awaited(dispatch, set(self._options.modules))
            for answer in self._early.pop(dispatch.request_id, ()):
                self._take_answer(answer)
        return True

    def _next_dispatch(self) -> Dispatch:
        return self._sender.dispatches.get_nowait()

    def _not_sent(self, dispatch: Dispatch, error: Exception) -> None:
        if not isinstance(error, AnalysisError) or error.code in _OUTAGES:
            raise error
        self._tally.not_sent += 1
        self._report(_record(dispatch, "not_sent", Failure(error.code, as_text(error.message))))

    def _take_answer(self, answer: Answer) -> None:
        awaited = self._awaited.get(answer.request_id)
        if awaited is None:
            # It was quicker than the acknowledgement.
            self._early.setdefault(answer.request_id, []).append(answer)
            return
        if isinstance(answer, Refusal):
            self._tally.failed += 1
            self._report(_record(awaited.dispatch, "refused", Failure(answer.code, answer.message)))
            self._done(answer.request_id)
            return
        self._report(msgspec.structs.replace(_record(awaited.dispatch, answer.status), result=answer))
        awaited.failed = awaited.failed or answer.status == "failed"
        awaited.modules.discard(answer.module.name)
        if not awaited.modules:
            self._tally.failed += awaited.failed
            self._tally.ok += not awaited.failed
            self._done(answer.request_id)

    def _done(self, request_id: str) -> None:
        del self._awaited[request_id]
        self._sender.request_ids.discard(request_id)

    def _give_up(self) -> None:
        for awaited in self._awaited.values():
            reason = f"no answer within {self._options.timeout_s:g} s; is an analyzer running?"
            self._report(_record(awaited.dispatch, "unanswered", Failure(ErrorCode.ANSWER_TIMEOUT, reason)))
        self._tally.unanswered = len(self._awaited)
        self._awaited.clear()

    def _stop(self) -> None:
        """Ends sending first, so that every request handed over can have its acknowledgement noted."""
        self._sender.stop()
        try:
            self._client.flush(_LAST_ACKNOWLEDGEMENTS_S)
        except (AnalysisError, TimeoutError):
            # Each failure was reported with its file; what is in doubt is settled by the next run.
            return


class _Awaited(msgspec.Struct):
    """A sent request, and the modules that have not answered it yet (empty: the first answer is enough)."""

    dispatch: Dispatch
    modules: set[str]
    failed: bool = False


def _record(dispatch: Dispatch, status: UploadStatus, error: Failure | None = None) -> UploadRecord:
    image = dispatch.image
    return UploadRecord(
        path=dispatch.source.name,
        status=status,
        request_id=dispatch.request_id,
        bucket=image.bucket if image else None,
        key=image.key if image else None,
        error=error,
    )
