"""What a worker and its supervisor tell each other."""

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
    """

    def __init__(self, channel: Connection, stopping: threading.Event, patience_s: float) -> None:
        self._channel = channel
        self._stopping = stopping
        self._patience_s = patience_s
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
            if self._channel.poll(LOOK_S):
                self._hear()
        time.sleep(self._patience_s)
        os._exit(ExitCode.DRAIN_TIMEOUT)

    def _hear(self) -> None:
        try:
            self._channel.recv()
        except (EOFError, OSError):
            self._stopping.set()
        else:
            self._may_join.set()
