"""Which images a worker has in the hands of native code: what is left when it crashes there."""

import fcntl
import itertools
import logging
import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from consumers.analyzer.window import Task

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<8s?7xdd")
"""Magic, whether the worker ended by itself, after how many seconds a call counts as hung, and when the
main loop was last seen (of the machine's monotonic clock)."""
_BEAT = struct.Struct("<d")
_ENTRY = struct.Struct("<QqiI")
"""Serial number (0 for a free place), offset, partition, index within the record."""
_SERIAL = struct.Struct("<Q")
_ENDED = struct.Struct("<?")
_MAGIC = b"flight 1"
_LONGEST_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Held:
    """An image that was being decoded, prepared or inferred."""

    serial: int
    """Another one for every call."""
    partition: int
    offset: int
    index: int


class Flight(NamedTuple):
    """What a worker's record says."""

    ended_itself: bool
    timeout_s: float
    beat_s: float
    """When the main loop last went on, by the machine's monotonic clock; 0 before it has begun."""
    held: tuple[Held, ...]


class FlightRecorder:
    """Keeps on record which images are in a call that may kill the process or never return.

    The record is a file that is mapped into memory: writing costs no system call, and what was written
    outlives the process, however it ends.

    Args:
        path: the record; None for one that nobody will read.
        places: how many images may be held at once.
        timeout_s: after this a call is taken for hung.
    """

    def __init__(self, path: Path | None, places: int, timeout_s: float) -> None:
        size = _HEADER.size + places * _ENTRY.size
        try:
            self._map = mmap.mmap(-1, size) if path is None else self._mapped(path, size)
        except OSError as error:
            logger.warning("no record is kept of what is in hand: %s", error)
            self._map = mmap.mmap(-1, size)
        self._serials = itertools.count(1)
        self._places = places
        self._free = deque(range(places))
        _HEADER.pack_into(self._map, 0, _MAGIC, False, timeout_s, 0.0)

    def _mapped(self, path: Path, size: int) -> mmap.mmap:
        # Open, and so locked, until the process ends: nobody removes the record of one that lives.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Not only as a hole, which on a full disk would kill the process that writes into it.
        os.posix_fallocate(self._file, 0, size)
        return mmap.mmap(self._file, size)

    def hold(self, tasks: Sequence["Task"]) -> None:
        """Notes that a call into native code begins with these images; again for each call."""
        for task in tasks:
            if task.place is None:
                task.place = self._free.popleft()
            offset, index = task.position
            _ENTRY.pack_into(
                self._map,
                _HEADER.size + task.place * _ENTRY.size,
                next(self._serials),
                offset,
                task.partition.partition,
                index,
            )

    def release(self, tasks: Sequence["Task"]) -> None:
        """Notes that the call has returned."""
        for task in tasks:
            place, task.place = task.place, None
            if place is not None:
                _SERIAL.pack_into(self._map, _HEADER.size + place * _ENTRY.size, 0)
                self._free.append(place)

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return len(self._free) == self._places

    def beat(self) -> None:
        """Notes that the main loop goes on."""
        _BEAT.pack_into(self._map, _HEADER.size - _BEAT.size, time.monotonic())

    def end(self) -> None:
        """Notes that the worker ends by itself, with an exit code of its own choice."""
        _ENDED.pack_into(self._map, len(_MAGIC), True)


def read_flight(path: Path) -> Flight | None:
    """What a worker has on record; None where it has not begun to."""
    try:
        record = path.read_bytes()
    except OSError:
        return None
    if len(record) < _HEADER.size or not record.startswith(_MAGIC):
        return None
    _, ended_itself, timeout_s, beat_s = _HEADER.unpack_from(record)
    body = record[_HEADER.size :]
    entries = _ENTRY.iter_unpack(body[: len(body) // _ENTRY.size * _ENTRY.size])
    held = tuple(
        Held(serial, partition, offset, index) for serial, offset, partition, index in entries if serial
    )
    return Flight(ended_itself, timeout_s, beat_s, held)


class _Looks:
    """The time between two looks, and not much of it where the supervisor itself came late.

    A machine that was suspended, or too busy to run anything, makes nobody hang.
    """

    def __init__(self) -> None:
        self._looked_at_s: float | None = None

    def passed_s(self, now_s: float) -> float:
        """What counts of the time since the last look; 0 at the first."""
        before, self._looked_at_s = self._looked_at_s, now_s
        return 0.0 if before is None else min(now_s - before, _LONGEST_LOOK_S)


class HangWatch:
    """Tells whether a worker's call takes too long, as its supervisor sees it."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        """For how long the oldest call has been watched."""
        self._seen_s: dict[Held, float] = {}
        self._looks = _Looks()

    def look(self, flight: Flight, now_s: float) -> tuple[Held, ...]:
        """The images whose call is taken for hung."""
        passed_s = self._looks.passed_s(now_s)
        self._seen_s = {held: self._seen_s.get(held, -passed_s) + passed_s for held in flight.held}
        self.longest_s = max(self._seen_s.values(), default=0.0)
        return tuple(held for held, seen_s in self._seen_s.items() if seen_s > flight.timeout_s)


class LoopWatch:
    """Tells whether a worker's main loop has stopped going round, as its supervisor sees it.

    While one call into the module lasts as long as the silence does, it may be what keeps the loop, and the
    module's own time-out holds.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._beat_s: float | None = None
        self._silent_s = 0.0
        self._looks = _Looks()

    def look(self, flight: Flight, longest_call_s: float, now_s: float) -> bool:
        """Whether the loop is stuck."""
        passed_s = self._looks.passed_s(now_s)
        counts = flight.beat_s == self._beat_s and flight.beat_s > 0 and not flight.ended_itself
        self._silent_s = self._silent_s + passed_s if counts else 0.0
        self._beat_s = flight.beat_s
        return self._silent_s > self._patience_s and longest_call_s < self._silent_s - _LONGEST_LOOK_S
