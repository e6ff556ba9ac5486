"""Which prepared images go to the device together, and when."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Buckets(Generic[T]):
    """The rules, without threads: items wait by kind; a batch is of one kind, in order of arrival.

    A bucket may be closed once it holds a full batch, or its first item has waited `max_wait_s`. Of those
    that may, the one whose first item is oldest comes first: no kind can starve another, since an item that
    has waited long enough comes before all that arrived after it, however many of those there are.
    """

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self._buckets: dict[Hashable, deque[tuple[float, T]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, kind: Hashable, item: T, now_s: float) -> int:
        """Takes an item in; returns how many of its kind wait now. `now_s` never goes back."""
        items = self._buckets.setdefault(kind, deque())
        items.append((now_s, item))
        self._count += 1
        return len(items)

    def take(self, now_s: float, limit: int, *, hurry: bool = False, full: bool = False) -> list[T]:
        """The next batch of at most `limit` items; empty where none may be closed yet.

        Args:
            hurry: close the oldest bucket even if it is neither full nor due.
            full: only if the next batch is a full one.
        """
        ready = [
            kind
            for kind, items in self._buckets.items()
            if hurry or len(items) >= limit or items[0][0] + self._max_wait_s <= now_s
        ]
        if not ready:
            return []
        kind = min(ready, key=lambda kind: self._buckets[kind][0][0])
        items = self._buckets[kind]
        if full and len(items) < limit:
            return []
        batch = [items.popleft()[1] for _ in range(min(limit, len(items)))]
        self._count -= len(batch)
        if not items:
            del self._buckets[kind]
        return batch

    def due_at_s(self) -> float | None:
        """When the oldest item will have waited long enough; None without any."""
        if not self._buckets:
            return None
        return min(items[0][0] for items in self._buckets.values()) + self._max_wait_s


class Batcher(Generic[T]):
    """Buckets between the image threads, which put, and the inference thread, which takes.

    Args:
        max_wait_s: how long an item waits for others of its kind.
        capacity: items that wait here at most; `put` blocks beyond it.
        limit: how many items a batch may hold at present.
        more_coming: whether anything is on its way here. If not, waiting cannot fill a batch.
    """

    def __init__(
        self,
        max_wait_s: float,
        capacity: int,
        limit: Callable[[], int],
        more_coming: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets: Buckets[T] = Buckets(max_wait_s)
        self._capacity = capacity
        self._limit = limit
        self._more_coming = more_coming
        self._clock = clock
        lock = threading.Lock()
        self._arrived = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def put(self, kind: Hashable, item: T) -> None:
        """Hands an item over; waits while there is no room."""
        with self._room:
            self._room.wait_for(lambda: len(self._buckets) < self._capacity)
            alike = self._buckets.add(kind, item, self._clock())
            # The first item sets the alarm; one that closes no batch would wake the other thread in vain.
            if alike >= self._limit() or len(self._buckets) == 1 or self._in_a_hurry():
                self._arrived.notify()

    def take(self) -> list[T]:
        """Waits for the next batch."""
        with self._arrived:
            while True:
                batch = self._take()
                if batch:
                    return batch
                due_at_s = self._buckets.due_at_s()
                self._arrived.wait(None if due_at_s is None else max(0.0, due_at_s - self._clock()))

    def take_full(self) -> list[T]:
        """The next batch if it is a full one, or else nothing: what is not full may grow for a while yet."""
        with self._arrived:
            return self._given(self._buckets.take(self._clock(), self._limit(), full=True))

    def _take(self) -> list[T]:
        return self._given(self._buckets.take(self._clock(), self._limit(), hurry=self._in_a_hurry()))

    def _in_a_hurry(self) -> bool:
        return len(self._buckets) >= self._capacity or not self._more_coming()

    def _given(self, batch: list[T]) -> list[T]:
        if batch:
            self._room.notify(len(batch))
        return batch
