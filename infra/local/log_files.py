"""Reading the components' logs: the last lines of each, in the order of their times, then what comes."""

import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

_POLL_S = 0.2
_ISO_TIME = re.compile(r'^(?:\{"time":")?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)[.,]?(\d*)')
_GLOG_TIME = re.compile(r"^[IWEF](\d\d)(\d\d) (\d\d:\d\d:\d\d)\.(\d+)")


class Line(msgspec.Struct, frozen=True):
    """One line of a component's log."""

    component: str
    text: str


class LogReader:
    """The logs of some components, as one."""

    def __init__(self, logs: Mapping[str, Path]) -> None:
        self._tails = [_Tail(component, path) for component, path in logs.items()]

    def last(self, count: int) -> list[Line]:
        """The last `count` lines of each log, in the order of their times.

        A line without a time, of a traceback say, stays behind the one that it follows.
        """
        timed: list[tuple[str, Line]] = []
        for tail in self._tails:
            moment = ""
            for line in deque(tail.read(), maxlen=count):
                moment = moment_of(line.text) or moment
                timed.append((moment, line))
        return [line for _, line in sorted(timed, key=lambda each: each[0])]

    def follow(self) -> Iterator[Line]:
        """Lines as they are written, for ever; a log that was set aside goes on in the new file."""
        while True:
            new = [line for tail in self._tails for line in tail.read()]
            yield from new
            if not new:
                time.sleep(_POLL_S)

    def close(self) -> None:
        """Closes the files."""
        for tail in self._tails:
            tail.close()


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file; none where there is no file."""
    reader = LogReader({"": path})
    try:
        return [line.text for line in reader.last(count)]
    finally:
        reader.close()


def moment_of(text: str) -> str | None:
    """The time at which a line begins, as text that sorts: ISO 8601, our JSON lines, and Go's log format."""
    if iso := _ISO_TIME.match(text):
        date, clock, fraction = iso.groups()
        return f"{date} {clock}.{fraction:0<6}"
    if glog := _GLOG_TIME.match(text):
        month, day, clock, fraction = glog.groups()
        return f"{datetime.now(UTC).year}-{month}-{day} {clock}.{fraction:0<6}"
    return None


class _Tail:
    """One log, read line by line as it grows."""

    def __init__(self, component: str, path: Path) -> None:
        self._component = component
        self._path = path
        self._file: BinaryIO | None = None
        self._unfinished = b""

    def read(self) -> Iterator[Line]:
        """The whole lines that were added since the last call."""
        if self._file is None or self._was_replaced(self._file):
            self.close()
            self._open()
        if self._file is None:
            return
        for piece in self._file:
            whole = self._unfinished + piece
            if whole.endswith(b"\n"):
                self._unfinished = b""
                yield Line(self._component, whole.decode("utf-8", "replace").rstrip("\r\n"))
            else:
                self._unfinished = whole

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self._unfinished = b""
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            self._file = None

    def _was_replaced(self, file: BinaryIO) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return False
