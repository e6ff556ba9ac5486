"""What a worker and its supervisor tell each other."""

import faulthandler
import os
import threading
import time
from multiprocessing.connection import Connection

from consumers.analyzer.publishing import Stopped
from infra.exit_codes import ExitCode

LOADED = "loaded"
JOIN = "join"
READY = "ready"

LOOK_S = 0.5


class Supervision:
    """The worker's side of the channel: it says `LOADED`, hears `JOIN`, and says `READY`.

    The channel's end tells that the supervisor is gone, and the worker stops too. A worker that takes
    longer than `patience_s` to stop is ended.

    A call that holds Python's lock would keep the process from all of that, once nobody is left who kills
    it: beyond `lock_s` a thread of C ends the process (exit code 1), with every thread's stack in the log.
    """

    def __init__(
        self, channel: Connection, stopping: threading.Event, patience_s: float, lock_s: float
    ) -> None:
        self._channel = channel
        self._stopping = stopping
        self._patience_s = patience_s
        self.lock_s = lock_s
        self._may_join = threading.Event()
        self._told_ready = False

    def start(self) -> None:
        """Starts to listen."""
        threading.Thread(target=self._listen, name="supervision", daemon=True).start()

    def wait_to_join(self) -> None:
        """Says that the model is loaded, and waits until the other workers are as far.

        Raises:
            Stopped: told to stop meanwhile.
        """
        self._tell(LOADED)
        while not self._may_join.wait(LOOK_S):
            if self._stopping.is_set():
                raise Stopped

    def tell_ready(self) -> None:
        """Says, once, that the worker is ready."""
        if not self._told_ready:
            self._told_ready = True
            self._tell(READY)

    def _tell(self, word: str) -> None:
        try:
            self._channel.send(word)
        except OSError:
            self._stopping.set()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            self._has_the_lock()
            if self._channel.poll(LOOK_S):
                self._hear()
        end_at_s = time.monotonic() + self._patience_s
        while time.monotonic() < end_at_s:
            self._has_the_lock()
            time.sleep(LOOK_S)
        os._exit(ExitCode.DRAIN_TIMEOUT)

    def _has_the_lock(self) -> None:
        faulthandler.dump_traceback_later(self.lock_s, exit=True)

    def _hear(self) -> None:
        try:
            self._channel.recv()
        except (EOFError, OSError):
            self._stopping.set()
        else:
            self._may_join.set()
