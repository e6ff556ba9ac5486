"""How a long-running process starts and stops: signals, and the word that it is ready."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from infra.exit_codes import ExitCode

READY_FILE = "ANALYSIS_READY_FILE"
"""Environment variable that names a file; the process writes its pid there once it is ready."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Turns SIGTERM and SIGINT into a flag while it is entered; a second signal ends the process at once.

    Enter it in the main thread. The handlers of before come back on leaving.
    """

    def __init__(self, on_force: Callable[[], None] = lambda: None) -> None:
        """`on_force` runs before a second signal ends the process."""
        self.stopping = threading.Event()
        self._on_force = on_force
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopping.is_set():
            self._on_force()
            os._exit(ExitCode.INTERRUPTED)
        self.stopping.set()


def announce_ready() -> None:
    """Tells whoever started this process that it is ready, where it asked to be told."""
    path = os.environ.get(READY_FILE)
    if path:
        Path(path).write_text(str(os.getpid()), encoding="ascii")
