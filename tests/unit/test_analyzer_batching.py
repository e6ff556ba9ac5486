"""The rules of batching, by a clock that moves only when told to."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.analyzer.batching import Batcher, Buckets
from consumers.analyzer.ceiling import FIRST_PROBATION_S, BatchCeiling


def test_a_full_bucket_is_a_batch_in_order_of_arrival() -> None:
    buckets: Buckets[int] = Buckets(max_wait_s=1.0)
    for number in range(5):
        buckets.add("a", number, now_s=0.0)
    assert buckets.take(0.0, limit=4) == [0, 1, 2, 3]
    assert buckets.take(0.0, limit=4) == []
    assert len(buckets) == 1


def test_a_bucket_closes_when_its_first_item_has_waited_long_enough() -> None:
    buckets: Buckets[int] = Buckets(max_wait_s=0.01)
    for at_s in (0.0, 0.004, 0.009):
        buckets.add("a", int(at_s * 1000), at_s)
    assert buckets.take(0.0099, limit=10) == []
    assert buckets.due_at_s() == 0.01
    assert buckets.take(0.01, limit=10) == [0, 4, 9]
    assert buckets.due_at_s() is None


def test_kinds_never_share_a_batch() -> None:
    buckets: Buckets[str] = Buckets(max_wait_s=0.0)
    for item in ("a1", "b1", "a2", "b2"):
        buckets.add(item[0], item, now_s=0.0)
    assert [buckets.take(0.0, limit=8), buckets.take(0.0, limit=8)] == [["a1", "a2"], ["b1", "b2"]]


def test_an_item_that_waited_long_enough_comes_before_full_batches_that_are_younger() -> None:
    buckets: Buckets[str] = Buckets(max_wait_s=0.01)
    buckets.add("rare", "rare", now_s=0.0)
    for _ in range(8):
        buckets.add("common", "common", now_s=0.001)
    assert buckets.take(0.005, limit=4) == ["common"] * 4, "full, and the rare one is not due yet"
    assert buckets.take(0.010, limit=4) == ["rare"]


def test_in_a_hurry_the_oldest_bucket_closes_as_it_is() -> None:
    buckets: Buckets[str] = Buckets(max_wait_s=10.0)
    buckets.add("a", "a1", now_s=0.0)
    buckets.add("b", "b1", now_s=1.0)
    assert buckets.take(1.0, limit=4, hurry=True) == ["a1"]


@given(
    arrivals=st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.0, 0.02)), min_size=1, max_size=60),
    limit=st.integers(1, 8),
)
def test_every_item_comes_out_once_in_order_within_its_bound(
    arrivals: list[tuple[str, float]], limit: int
) -> None:
    """A device that takes `busy_s` a batch: whoever is due waits only for batches with older items."""
    max_wait_s, busy_s, now_s = 0.01, 0.003, 0.0
    buckets: Buckets[tuple[str, int]] = Buckets(max_wait_s)
    pending = []
    for number, (kind, gap_s) in enumerate(arrivals):
        now_s += gap_s
        pending.append((now_s, kind, number))
    came_at = {number: at_s for at_s, _, number in pending}
    taken: list[int] = []
    now_s = 0.0
    while len(taken) < len(arrivals):
        while pending and pending[0][0] <= now_s:
            at_s, kind, number = pending.pop(0)
            buckets.add(kind, (kind, number), at_s)
        batch = buckets.take(now_s, limit)
        if not batch:
            times = [pending[0][0]] if pending else []
            due_at_s = buckets.due_at_s()
            now_s = min(times + ([] if due_at_s is None else [due_at_s]))
            continue
        assert len({kind for kind, _ in batch}) == 1
        assert len(batch) <= limit
        older = sum(1 for number in came_at if number not in taken and came_at[number] < came_at[batch[0][1]])
        assert now_s <= came_at[batch[0][1]] + max_wait_s + busy_s * (len(taken) + older + 1)
        taken.extend(number for _, number in batch)
        now_s += busy_s
    for kind in "abcd":
        own = [number for number in taken if arrivals[number][0] == kind]
        assert own == sorted(own)
    assert sorted(taken) == list(range(len(arrivals)))


def test_nobody_starves_under_an_overload_of_another_kind() -> None:
    buckets: Buckets[str] = Buckets(max_wait_s=0.01)
    buckets.add("rare", "rare", now_s=0.0)
    now_s, batches = 0.0, 0
    while True:
        for _ in range(8):
            buckets.add("common", "common", now_s)
        if "rare" in buckets.take(now_s, limit=4):
            break
        now_s += 0.002
        batches += 1
        assert batches < 100
    assert now_s <= 0.01 + 0.002 * 4, "once due it waits only for what is older"


def test_ahead_only_a_full_batch_goes_and_nobody_is_passed_for_it() -> None:
    buckets: Buckets[str] = Buckets(max_wait_s=0.01)
    for number in range(3):
        buckets.add("a", f"a{number}", now_s=0.0)
    assert buckets.take(0.02, limit=4, full=True) == [], "due, but it may grow"
    for _ in range(4):
        buckets.add("b", "b", now_s=0.001)
    assert buckets.take(0.02, limit=4, full=True) == [], "the next batch is the older one"
    assert buckets.take(0.02, limit=4) == ["a0", "a1", "a2"]
    assert buckets.take(0.02, limit=4, full=True) == ["b"] * 4


def test_take_does_not_wait_where_nothing_more_can_come() -> None:
    batcher: Batcher[int] = Batcher(3600.0, 100, lambda: 8, more_coming=lambda: False)
    batcher.put("a", 1)
    assert batcher.take() == [1]


def test_take_waits_for_a_batch_to_fill() -> None:
    batcher: Batcher[int] = Batcher(3600.0, 100, lambda: 3, more_coming=lambda: True)
    taken: list[list[int]] = []
    taking = threading.Thread(target=lambda: taken.append(batcher.take()), daemon=True)
    taking.start()
    for number in range(3):
        assert not taken
        batcher.put("a", number)
    taking.join(10)
    assert taken == [[0, 1, 2]]
    assert batcher.take_full() == []


def test_put_waits_for_room_and_full_buckets_are_not_waited_for() -> None:
    batcher: Batcher[str] = Batcher(3600.0, 2, lambda: 8, more_coming=lambda: True)
    batcher.put("a", "a1")
    batcher.put("b", "b1")
    putting = threading.Thread(target=batcher.put, args=("c", "c1"), daemon=True)
    putting.start()
    putting.join(0.1)
    assert putting.is_alive()
    assert batcher.take() == ["a1"], "no bucket is full, but there is no room for more"
    putting.join(10)
    assert not putting.is_alive()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_ceiling_is_lowered_by_halves_and_raised_after_a_probation() -> None:
    clock = Clock()
    ceiling = BatchCeiling(32, clock)
    assert ceiling.current == 32
    ceiling.lower(32)
    ceiling.lower(16)
    assert ceiling.current == 8
    clock.now_s += 2 * FIRST_PROBATION_S
    assert ceiling.current == 16
    assert ceiling.current == 16
    clock.now_s += 4 * FIRST_PROBATION_S
    assert ceiling.current == 32


def test_each_failure_doubles_the_probation() -> None:
    clock = Clock()
    ceiling = BatchCeiling(2, clock)
    waits = []
    for _ in range(3):
        ceiling.lower(2)
        began_s = clock.now_s
        while ceiling.current == 1:
            clock.now_s += 1.0
        waits.append(clock.now_s - began_s)
    assert waits == pytest.approx([FIRST_PROBATION_S * factor for factor in (1, 2, 4)], abs=1.0)


def test_a_ceiling_is_never_below_one() -> None:
    ceiling = BatchCeiling(4, Clock())
    for size in (4, 2, 1, 1):
        ceiling.lower(size)
    assert ceiling.current == 1
