"""What an interrupted upload has sent: one line before each request goes out, one when Kafka has it.

The file is named after the command's arguments, so the same command finds it again. A request that has
its first line but not its second is in doubt; `analysis upload` then looks for it on the topic. So a
request goes out twice only if it was still on its way to the broker while the next run looked, or if the
topic no longer keeps it.
Lines are appended with one write each: a killed process leaves at most its last line torn.
"""

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from producers.errors import InvalidArgument
from producers.sources import ImageSource
from schemas.messages import ImageReference

_MODE = 0o600
_CLOSED = -1


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Where the topics ended when the upload began: requests and answers lie after that."""

    requests: list[tuple[str, int, int]]
    answers: list[tuple[str, int, int]]


class Sending(msgspec.Struct, frozen=True, tag="sending"):
    """A request is about to be handed over."""

    identity: str
    fingerprint: str
    request_id: str
    image: ImageReference


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """Kafka has the request."""

    request_id: str


Line = Begun | Sending | Sent

_lines = msgspec.json.Decoder(Line)


class Journal:
    """The record of one upload command; safe to write from several threads.

    Args:
        path: the file; `journal_path` gives it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun: Begun | None = None
        self._file = _CLOSED
        self._lock = threading.Lock()
        self._by_identity: dict[str, Sending] = {}
        self._sent: set[str] = set()

    def open(self) -> None:
        """Reads what an earlier run wrote, and keeps other runs of the same command out.

        Raises:
            InvalidArgument: the file cannot be written, or the same command runs elsewhere.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open_locked()
            lines = self.path.read_bytes().split(b"\n")
        except BlockingIOError:
            raise InvalidArgument(f"the same upload runs already (it holds {self.path})") from None
        except OSError as error:
            raise InvalidArgument(
                f"cannot write the upload's journal {self.path}: {error.strerror}; XDG_STATE_HOME moves it"
            ) from None
        for line in lines:
            self._read(line)
        if lines[-1]:
            os.write(self._file, b"\n")

    def begin(self, begun: Begun) -> None:
        """Notes where the topics end, for an upload that just begins."""
        self._append(begun)

    def sending(self, sending: Sending) -> None:
        """Notes a request; call it before the request is handed over."""
        self._append(sending)

    def sent(self, request_id: str) -> None:
        """Notes that Kafka has the request."""
        self._append(Sent(request_id))

    def find(self, source: ImageSource) -> Sending | None:
        """The request that was made for a source and that Kafka has; None where there is none."""
        sending = self._by_identity.get(source.identity)
        return sending if sending is not None and sending.request_id in self._sent else None

    @property
    def in_doubt(self) -> set[str]:
        """Ids of requests that were handed over and whose acknowledgement was not seen."""
        return {sending.request_id for sending in self._by_identity.values()} - self._sent

    @property
    def sent_count(self) -> int:
        """How many requests Kafka has."""
        return len(self._sent)

    def close(self, *, completed: bool) -> None:
        """Lets go of the file; a completed upload leaves none."""
        if completed:
            self.path.unlink(missing_ok=True)
        # The number of a closed file is given to the next one that is opened: nothing may be written there.
        with self._lock:
            os.close(self._file)
            self._file = _CLOSED

    def _append(self, line: Line) -> None:
        text = msgspec.json.encode(line) + b"\n"
        with self._lock:
            if os.write(self._file, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._apply(line)

    def _read(self, line: bytes) -> None:
        try:
            self._apply(_lines.decode(line))
        except msgspec.DecodeError:
            return

    def _apply(self, line: Line) -> None:
        match line:
            case Begun():
                self.begun = line
            case Sending():
                self._by_identity[line.identity] = line
            case Sent():
                self._sent.add(line.request_id)

    def _open_locked(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.path.exists() and os.path.samestat(os.fstat(file), self.path.stat()):
                    return file
            except BaseException:
                os.close(file)
                raise
            # The run that held it removed it meanwhile.
            os.close(file)


def journal_path(arguments: Sequence[Any], environ: dict[str, str] | None = None) -> Path:
    """The journal of a command: below XDG_STATE_HOME, named after a hash of what the command sends."""
    given = dict(os.environ) if environ is None else environ
    state = Path(given.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = hashlib.sha256(ascii(arguments).encode()).hexdigest()[:32]
    return state / "analysis" / "uploads" / f"{name}.jsonl"
