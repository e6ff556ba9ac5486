"""Measurements over a clock and callables: they know nothing of processes, modules or printing."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

import msgspec

Clock = Callable[[], float]
Call = Callable[[], object]

STEADY = 0.05
"""Calls agree when the middle half of them lies within this share of their median."""
LEAST_CALLS = 5
MOST_CALLS = 100


class Timing(msgspec.Struct, frozen=True):
    """The median of several calls."""

    median_s: float
    calls: int
    steady: bool


def time_calls(call: Call, seconds: float, clock: Clock) -> Timing:
    """Times a call, once for nothing and then until its times agree or `seconds` are over; at least once."""
    raise NotImplementedError


def repeat(call: Call, seconds: float, clock: Clock) -> tuple[int, float]:
    """Calls for `seconds`, at least once; returns how many calls were made and how long they took."""
    raise NotImplementedError


def batch_sizes(limit: int) -> list[int]:
    """Powers of two up to a limit, and the limit itself."""
    raise NotImplementedError


def steady_rate(finished: Sequence[float], since: float) -> float:
    """Images a second from the times at which they were finished, the ones before `since` left out.

    Counted from one end to another, so that answers which come in bursts do not count too many or too few.
    """
    raise NotImplementedError


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed (nearest rank)."""
    raise NotImplementedError
