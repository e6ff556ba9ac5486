"""A bound on memory that several threads share."""

import threading
from collections import deque


class ByteBudget:
    """Lets threads hold `limit_bytes` together; whoever would exceed it waits, first come, first served.

    One that wants more than the whole budget passes when nobody else holds any; those behind it wait, or
    small ones would pass it for ever.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._freed = threading.Condition()
        self._waiting: deque[object] = deque()

    def hold(self, size_bytes: int) -> "Lease":
        """Waits until `size_bytes` more may be held."""
        ticket = object()
        with self._freed:
            self._waiting.append(ticket)
            self._freed.wait_for(lambda: self._waiting[0] is ticket and self._fits(size_bytes))
            self._waiting.popleft()
            self._held += size_bytes
            self._freed.notify_all()
        return Lease(self, size_bytes)

    def give_back(self, size_bytes: int) -> None:
        """Called by leases."""
        with self._freed:
            self._held -= size_bytes
            self._freed.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        return self._held == 0 or self._held + size_bytes <= self._limit

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self._held


class Lease:
    """Bytes held of a budget, until `release`."""

    def __init__(self, budget: ByteBudget, size_bytes: int) -> None:
        self._budget = budget
        self._size_bytes = size_bytes

    def keep(self, size_bytes: int | None) -> None:
        """Gives back all but `size_bytes`, where less is known to be needed than was estimated."""
        if size_bytes is not None and size_bytes < self._size_bytes:
            self._budget.give_back(self._size_bytes - size_bytes)
            self._size_bytes = size_bytes

    def release(self) -> None:
        """Gives the bytes back; the second time does nothing."""
        size_bytes, self._size_bytes = self._size_bytes, 0
        if size_bytes:
            self._budget.give_back(size_bytes)
