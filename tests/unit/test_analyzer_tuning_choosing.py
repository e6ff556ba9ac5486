from itertools import product

import pytest

from consumers.analyzer.tuning.candidates import (
    Machine,
    affordable_workers,
    first_combinations,
    other_batches,
    other_waits,
    places,
    worker_counts,
)
from consumers.analyzer.tuning.choosing import best_batch, best_preparation, best_throughput, contenders
from consumers.analyzer.tuning.figures import Batch, Combination, Preparation, Throughput


def batch(size: int, images_per_s: float) -> Batch:
    return Batch(size=size, ms=1, images_per_s=images_per_s, calls=5, steady=True)


def preparation(workers: int, threads: int, images_per_s: float) -> Preparation:
    return Preparation(workers=workers, threads=threads, images_per_s=images_per_s, cpu_ms=1)


def combination(workers: int = 1, threads: int = 1, max_batch: int = 8, wait: float = 5) -> Combination:
    return Combination(workers=workers, threads=threads, max_batch=max_batch, max_wait_ms=wait)


def throughput(combination: Combination, images_per_s: float) -> Throughput:
    return Throughput(combination=combination, images_per_s=images_per_s, runs=(images_per_s,), mean_batch=1)


def machine(cores: int, gpus: int = 0, affordable: int = 1000) -> Machine:
    return Machine(cores=cores, gpus=gpus, affordable_workers=affordable)


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({1: 100, 2: 190, 4: 300, 8: 390, 16: 400, 32: 402}, 8),
        ({1: 100, 2: 94, 4: 90}, 1),
        ({1: 100, 2: 200, 4: 400}, 4),
        ({1: 95, 2: 100, 4: 99}, 1),
        ({1: 94.9, 2: 100, 4: 99}, 2),
    ],
)
def test_the_smallest_batch_within_five_percent_of_the_best(rates: dict[int, float], chosen: int) -> None:
    assert best_batch([batch(size, rate) for size, rate in rates.items()]).size == chosen


def test_the_fewest_threads_within_five_percent_of_the_best_with_so_many_workers() -> None:
    figures = [preparation(1, 1, 50), preparation(1, 2, 98), preparation(1, 4, 100), preparation(2, 1, 500)]
    assert best_preparation(figures, 1).threads == 2


def test_what_is_as_good_is_decided_by_what_costs_less() -> None:
    order = [
        combination(workers=1, max_batch=8, wait=5, threads=3),
        combination(workers=2, max_batch=4, wait=5, threads=3),
        combination(workers=2, max_batch=8, wait=1, threads=3),
        combination(workers=2, max_batch=8, wait=5, threads=2),
        combination(workers=2, max_batch=8, wait=5, threads=3),
    ]
    figures = [throughput(one, 96 + number) for number, one in enumerate(order)]
    while figures:
        assert best_throughput(figures[::-1]) is figures[0]
        figures = figures[1:]


def test_what_is_clearly_slower_is_not_chosen_however_little_it_costs() -> None:
    cheap, dear = throughput(combination(), 94), throughput(combination(workers=8), 100)
    assert best_throughput([cheap, dear]) is dear
    assert contenders([cheap, dear], 0.9) == [cheap, dear]


@pytest.mark.parametrize(
    ("where", "counts"),
    [
        (machine(1), [1]),
        (machine(2), [1, 2]),
        (machine(12), [1, 2, 4, 8, 12]),
        (machine(12, affordable=5), [1, 2, 4]),
        (machine(16, gpus=1), [1, 2, 4]),
        (machine(16, gpus=4), [1, 4, 8, 16]),
        (machine(2, gpus=2), [1, 2]),
        (machine(4, affordable=0), [1]),
    ],
)
def test_workers_to_try(where: Machine, counts: list[int]) -> None:
    assert worker_counts(where) == counts


def test_half_of_the_free_memory_is_for_workers() -> None:
    assert affordable_workers(worker_bytes=100, free_bytes=1000) == 5


@pytest.mark.parametrize("cores", [1, 2, 6, 16])
def test_places_go_from_one_thread_to_beyond_the_cores(cores: int) -> None:
    workers = worker_counts(machine(cores))
    tried = places(cores, workers)
    alone = [threads for count, threads in tried if count == 1]
    assert alone[0] == 1
    assert cores in alone
    assert max(alone) > cores
    assert {count for count, _ in tried} == set(workers)
    assert len(set(tried)) == len(tried)
    assert all(count * threads <= 3 * cores for count, threads in tried)


def test_what_promises_most_is_tried_first() -> None:
    figures = [preparation(1, 1, 100), preparation(1, 2, 150), preparation(2, 1, 200), preparation(2, 2, 199)]
    tried = first_combinations(figures, 8, 5.0, infer_per_s=90, devices=2)
    assert [(one.workers, one.threads) for one in tried] == [(2, 1), (2, 2), (1, 2)]
    assert {(one.max_batch, one.max_wait_ms) for one in tried} == {(8, 5.0)}


def test_workers_that_share_a_gpu_do_not_infer_more() -> None:
    figures = [preparation(1, 4, 300), preparation(4, 1, 400)]
    tried = first_combinations(figures, 8, 5.0, infer_per_s=250, devices=1)
    assert [one.workers for one in tried] == [1, 4]


def test_few_places_are_tried_of_many() -> None:
    figures = [preparation(*pair, 1) for pair in product((1, 2, 4, 8), (1, 2, 4))]
    assert len(first_combinations(figures, 8, 5.0, 10, 8)) == 5


def test_batches_beside_the_best() -> None:
    sizes = [1, 2, 4, 8]
    assert [one.max_batch for one in other_batches(combination(max_batch=4), sizes)] == [2, 8]
    assert [one.max_batch for one in other_batches(combination(max_batch=8), sizes)] == [4]
    assert [one.max_batch for one in other_batches(combination(max_batch=1), sizes)] == [2]


def test_waits_up_to_what_filling_a_batch_takes() -> None:
    best = combination(workers=2, max_batch=8, wait=5)
    assert [one.max_wait_ms for one in other_waits(best, images_per_s=1000)] == [1, 4, 8, 16]
    assert [one.max_wait_ms for one in other_waits(best, images_per_s=1)] == [1, 50]
    assert [one.max_wait_ms for one in other_waits(best, images_per_s=1e6)] == [1]
    assert 5 not in [one.max_wait_ms for one in other_waits(best, images_per_s=3200)]
