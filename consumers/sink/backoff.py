"""How long to wait before the next try."""

import random
import time


class Backoff:
    """Waits that double up to a limit, each shortened at random so that sinks do not come back in step."""

    def __init__(self, first_s: float = 0.1, most_s: float = 2.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0
        self._until_s = 0.0
        self._since_s = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    @property
    def waiting(self) -> bool:
        """Whether it is too early for the next try."""
        return self.failing and time.monotonic() < self._until_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first of the failures."""
        return time.monotonic() - self._since_s if self.failing else 0.0

    def fail(self) -> None:
        """Notes a failed try."""
        now_s = time.monotonic()
        if not self.failing:
            self._since_s = now_s
        # Not 2 ** failures alone: in an outage of days it grows beyond what a float holds.
        limit_s = min(self._most_s, self._first_s * 2 ** min(self._failures, 30))
        self._until_s = now_s + limit_s * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, hides nothing)
        self._failures += 1

    def succeed(self) -> None:
        """Notes a try that worked."""
        self._failures = 0
