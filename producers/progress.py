"""Progress on stderr: a bar on a terminal, a line now and then otherwise."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINES = 20
"""Lines without a terminal, over the whole run."""


class ProgressReport:
    """Shows how many of `total` are done; a context manager.

    Args:
        quiet: show nothing.
    """

    def __init__(self, total: int, verb: str, *, quiet: bool) -> None:
        self._total = total
        self._verb = verb
        self._quiet = quiet
        self._done = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressReport":
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _make_bar()
            self._task = self._bar.add_task(self._verb, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int) -> None:
        """Says how many are done now."""
        before, self._done = self._done, done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        elif not self._quiet and self._total > 1 and self._is_due(before, done):
            print(f"[{done} of {self._total}] {self._verb}", file=sys.stderr, flush=True)

    def _is_due(self, before: int, done: int) -> bool:
        step = max(1, self._total // _LINES)
        return done // step > before // step or (done == self._total > before)


def _make_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines printed to a terminal go above the bar; a pipe must get them as they are.
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
