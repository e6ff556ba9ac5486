from collections.abc import Callable, Iterable
from itertools import chain, cycle

import pytest

from consumers.analyzer.tuning.budget import TimeBudget
from consumers.analyzer.tuning.feeding import arrivals
from consumers.analyzer.tuning.figures import Batch
from consumers.analyzer.tuning.measuring import (
    MOST_CALLS,
    batch_sizes,
    percentile,
    repeat,
    steady_rate,
    sweep_batches,
    time_calls,
)


class Clock:
    """Moves only as far as the calls take."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def call(self, seconds: Iterable[float]) -> Callable[[], None]:
        """A call that takes these times, one after the other."""
        times = iter(seconds)

        def spend() -> None:
            self.now += next(times)

        return spend


def test_the_first_call_does_not_count() -> None:
    clock = Clock()
    timing = time_calls(clock.call(chain([50.0], cycle([2.0]))), 60, clock)
    assert timing.median_s == 2.0


def test_calls_that_agree_end_the_measurement() -> None:
    clock = Clock()
    timing = time_calls(clock.call(cycle([1.0, 1.01])), 1000, clock)
    assert (timing.calls, timing.steady) == (5, True)
    assert clock.now < 110


def test_calls_too_quick_to_trust_are_made_for_a_while() -> None:
    clock = Clock()
    timing = time_calls(clock.call(cycle([0.001])), 1000, clock)
    assert timing.calls > 50
    assert timing.steady


def test_calls_that_differ_end_with_the_time() -> None:
    clock = Clock()
    timing = time_calls(clock.call(cycle([1.0, 3.0])), 20, clock)
    assert not timing.steady
    assert 120 <= clock.now < 124


def test_there_is_one_call_however_little_the_time() -> None:
    clock = Clock()
    assert time_calls(clock.call(cycle([1.0])), 0, clock).calls == 1
    assert repeat(clock.call(cycle([1.0])), 0, clock) == 1


def test_calls_that_never_agree_end() -> None:
    clock = Clock()
    timing = time_calls(clock.call(cycle([1e-9, 1e-3])), 1e9, clock)
    assert (timing.calls, timing.steady) == (MOST_CALLS, False)


def test_many_calls_that_agree_are_enough_however_quick_they_are() -> None:
    clock = Clock()
    timing = time_calls(clock.call(cycle([2.0**-20])), 1e9, clock)
    assert (timing.calls, timing.steady) == (MOST_CALLS, True)


def test_repeating_counts_the_calls_that_began_in_time() -> None:
    clock = Clock()
    assert repeat(clock.call(cycle([2.0])), 9, clock) == 5


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1]), (2, [1, 2]), (20, [1, 2, 4, 8, 16, 20]), (32, [1, 2, 4, 8, 16, 32])]
)
def test_sizes_double_up_to_the_limit(limit: int, sizes: list[int]) -> None:
    assert batch_sizes(limit) == sizes


def batch(size: int) -> Batch:
    return Batch(size=size, ms=1, images_per_s=size, calls=1, steady=True)


def limited(most: int, error: Exception) -> Callable[[int, float], Batch]:
    """Measures batches up to a size and fails above it."""

    def measure(size: int, _seconds: float) -> Batch:
        if size > most:
            raise error
        return batch(size)

    return measure


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_want_of_memory_ends_the_sweep_and_keeps_what_was_measured(error: Exception) -> None:
    sweep = sweep_batches(limited(4, error), [1, 2, 4, 8, 16], 60, Clock())
    assert [one.size for one in sweep.batches] == [1, 2, 4]
    assert sweep.ended == "out of memory with a batch of 8"


def test_without_memory_for_one_image_the_sweep_is_empty() -> None:
    assert sweep_batches(limited(0, MemoryError()), [1, 2], 60, Clock()).batches == ()


def test_another_error_is_no_end_but_a_failure() -> None:
    with pytest.raises(ValueError, match="no good"):
        sweep_batches(limited(4, ValueError("no good")), [1, 2, 4, 8], 60, Clock())


def test_the_sweep_ends_with_its_time_and_measures_one_batch_at_least() -> None:
    clock = Clock()

    def measure(size: int, _seconds: float) -> Batch:
        clock.now += 40
        return batch(size)

    sweep = sweep_batches(measure, [1, 2, 4, 8], 60, clock)
    assert [one.size for one in sweep.batches] == [1, 2]
    assert sweep.ended == "time was up before a batch of 4"
    assert len(sweep_batches(measure, [1, 2], 0, clock).batches) == 1


def test_the_sweep_shares_its_time_out() -> None:
    clock, shares = Clock(), []

    def measure(size: int, seconds: float) -> Batch:
        shares.append(seconds)
        clock.now += 10 if size == 1 else seconds
        return batch(size)

    sweep_batches(measure, [1, 2, 4], 90, clock)
    assert shares == [30, 40, 40]


def test_a_rate_counts_whole_bursts() -> None:
    bursts = [second for second in range(1, 11) for _ in range(8)]
    assert steady_rate(bursts, since=2.5, until=7.9) == 8.0
    assert steady_rate(bursts, since=0.0, until=10.0) == pytest.approx(79 / 9)


def test_a_rate_of_too_little_is_none() -> None:
    assert steady_rate([1.0], 0, 10) == 0
    assert steady_rate([], 0, 10) == 0
    assert steady_rate([1.0, 2.0], since=2.0, until=3.0) == 0


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(reversed(values), 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert percentile([1.0, 2.0], 0.5) == 1


def test_arrivals_have_the_rate_that_is_asked_for() -> None:
    moments = list(arrivals(100, 50, seed=1))
    assert moments[0] == 0
    assert moments == sorted(moments)
    assert moments[-1] <= 50
    assert 4500 < len(moments) < 5500
    assert list(arrivals(0.001, 1, seed=1)) == [0]


def test_what_is_not_measuring_takes_no_time_of_the_budget() -> None:
    clock = Clock()
    budget = TimeBudget(10, clock)
    with budget.paused():
        clock.now += 1000
    clock.now += 4
    assert budget.left() == 6
    assert budget.left(until=0.5) == 1
    clock.now += 20
    assert budget.left() == 0
