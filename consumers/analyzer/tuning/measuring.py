"""Measurements over a clock and callables: they know nothing of processes, modules or printing."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from statistics import median, quantiles

import msgspec

from consumers.analyzer.ceiling import is_out_of_memory
from consumers.analyzer.tuning.figures import Batch, BatchSweep

Clock = Callable[[], float]
Call = Callable[[], object]

AGREEMENT = 0.05
"""Calls agree when the middle half of their times spans no more than this share of the median."""
LEAST_CALLS = 5
MOST_CALLS = 1000
LEAST_S = 0.1
"""Agreement counts from here: a device that has just woken up may agree with itself."""


class Timing(msgspec.Struct, frozen=True):
    """The median of several calls."""

    median_s: float
    calls: int
    steady: bool
    """Whether the calls agreed before the time was up."""


def time_calls(call: Call, seconds: float, clock: Clock) -> Timing:
    """Times a call until its times agree or `seconds` are over: once for nothing, then at least once."""
    begun = clock()
    call()
    times: list[float] = []
    while True:
        started = clock()
        call()
        now = clock()
        times.append(now - started)
        enough = len(times) == MOST_CALLS
        agreed = (enough or now - begun >= LEAST_S) and _agree(times)
        if agreed or enough or now - begun >= seconds:
            return Timing(median(times), len(times), agreed)


def repeat(call: Call, seconds: float, clock: Clock) -> int:
    """Calls until `seconds` are over, at least once; returns how often."""
    ends, calls = clock() + seconds, 0
    while not calls or clock() < ends:
        call()
        calls += 1
    return calls


def batch_sizes(limit: int) -> list[int]:
    """Powers of two up to a limit, and the limit itself."""
    return sorted({2**power for power in range(limit.bit_length())} | {limit})


def sweep_batches(
    measure: Callable[[int, float], Batch], sizes: Sequence[int], seconds: float, clock: Clock
) -> BatchSweep:
    """Measures batches of growing size, until memory or time is at its end.

    Args:
        measure: is given a size and the seconds for it.
    """
    ends = clock() + seconds
    batches: list[Batch] = []
    for number, size in enumerate(sizes):
        left = ends - clock()
        if batches and left <= 0:
            return BatchSweep(batches=tuple(batches), ended=f"time was up before a batch of {size}")
        try:
            batches.append(measure(size, max(0.0, left) / (len(sizes) - number)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return BatchSweep(batches=tuple(batches), ended=f"out of memory with a batch of {size}")
    return BatchSweep(batches=tuple(batches))


def steady_rate(finished: Sequence[float], since: float, until: float) -> float:
    """Images a second between two moments, from the times at which they were finished, in order.

    Counted from the last answer up to `since` to the last up to `until`: answers come a batch at a time,
    and a window cut at any other moment counts too many or too few.
    """
    first = max(0, bisect_right(finished, since) - 1)
    last = bisect_right(finished, until) - 1
    return (last - first) / (finished[last] - finished[first]) if last > first else 0.0


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _agree(times: Sequence[float]) -> bool:
    if len(times) < LEAST_CALLS:
        return False
    lower, middle, upper = quantiles(times, n=4)
    return upper - lower <= AGREEMENT * middle
