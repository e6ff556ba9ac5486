"""The measuring processes, seen from their parent."""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import msgspec

from consumers.analyzer.deaths import describe
from consumers.analyzer.devices import device_of
from consumers.analyzer.process_environment import prepare_environment
from consumers.analyzer.tuning.orders import BenchConfig, Loaded, Order
from consumers.analyzer.tuning.process import run
from infra.settings import AnalyzerSettings
from schemas.errors import AnalysisError, ErrorCode

PATIENCE_S = 60.0
"""Beyond what an order takes by itself, and the module's own timeouts."""
_BATCHES_BEYOND = 4
"""Batches that may still be on their way when an order's time is up."""


class _Member(msgspec.Struct, frozen=True):
    process: BaseProcess
    channel: Connection


class Fleet:
    """Processes started as the supervisor starts workers, each with the module loaded; a context manager.

    Args:
        gpus: how many GPUs there are to share; 0 for the CPU.
    """

    def __init__(self, settings: AnalyzerSettings, gpus: int, files: Sequence[str]) -> None:
        self._settings = settings
        self._gpus = gpus
        self._files = tuple(files)
        self._context = multiprocessing.get_context("spawn")
        self._members: list[_Member] = []
        self._timeout_s = 0.0

    def __enter__(self) -> "Fleet":
        prepare_environment()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for member in self._members:
            self._end(member)

    def __len__(self) -> int:
        return len(self._members)

    def first(self) -> Loaded:
        """Starts the first process, and drops the files that the module cannot be shown.

        Raises:
            AnalysisError: the module cannot be loaded, or no file is left.
        """
        self._start()
        loaded = self._loaded(self._members[0])
        self._files, self._timeout_s = loaded.files, loaded.timeout_s
        return loaded

    def grow(self, size: int) -> None:
        """Starts what is missing to so many processes, all at once.

        Raises:
            AnalysisError: one cannot load the module beside the others; it and the ones after it are ended.
        """
        before = len(self._members)
        for _ in range(before, size):
            self._start()
        for index in range(before, size):
            try:
                self._loaded(self._members[index])
            except AnalysisError:
                while len(self._members) > index:
                    self._end(self._members.pop())
                raise

    def ask(self, order: Order, workers: int) -> list[Any]:
        """Gives an order to so many processes at once, and returns their answers.

        Raises:
            AnalysisError: one failed, died or hangs; the others' answers are taken, so that they can go on.
        """
        members = self._members[:workers]
        for member in members:
            member.channel.send(order)
        deadline = time.monotonic() + order.seconds + _BATCHES_BEYOND * self._timeout_s + PATIENCE_S
        answers = [self._answer(member, deadline) for member in members]
        for answer in answers:
            if isinstance(answer, AnalysisError):
                raise answer
        return answers

    def _start(self) -> None:
        index = len(self._members)
        ours, theirs = self._context.Pipe()
        config = BenchConfig(
            index=index,
            device=device_of(index, self._gpus),
            settings=self._settings,
            files=self._files,
        )
        process = self._context.Process(target=run, args=(config, theirs), name=f"bench-{index}")
        process.start()
        theirs.close()
        self._members.append(_Member(process, ours))

    def _loaded(self, member: _Member) -> Loaded:
        answer = self._answer(member, None)
        if isinstance(answer, AnalysisError):
            raise answer
        assert isinstance(answer, Loaded)
        return answer

    def _answer(self, member: _Member, deadline: float | None) -> Any:
        """What a process answers, or an error that says why it does not; loading may take any time."""
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            if member.channel.poll(left_s):
                return member.channel.recv()
        except (EOFError, OSError):
            member.process.join(PATIENCE_S)
            how = describe(member.process.exitcode or 0)
            return AnalysisError(
                ErrorCode.MODULE_ERROR, f"module {self._settings.module!r} ended its process: {how}"
            )
        return AnalysisError(
            ErrorCode.MODULE_ERROR,
            f"module {self._settings.module!r} hangs: a batch takes over {self._timeout_s:.0f} s",
        )

    def _end(self, member: _Member) -> None:
        # It has nothing to save, and may be deep in native code.
        member.process.kill()
        member.process.join()
        member.channel.close()
