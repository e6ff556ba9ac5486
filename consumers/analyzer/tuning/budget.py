"""The time that a sweep may take."""

from collections.abc import Iterator
from contextlib import contextmanager

from consumers.analyzer.tuning.measuring import Clock


class TimeBudget:
    """Seconds to measure for, from now on; what is not measuring can be left out of them."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._begun = clock()

    def left(self, until: float = 1.0) -> float:
        """Seconds until this share of the whole is over; 0 where it is."""
        return max(0.0, self._begun + until * self._seconds - self._clock())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside takes no time of the budget."""
        started = self._clock()
        try:
            yield
        finally:
            self._begun += self._clock() - started
