"""What is worth trying on a machine, before and after the first figures are known."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from consumers.analyzer.tuning.choosing import best_preparation
from consumers.analyzer.tuning.figures import Combination, Preparation

MOST_PLACES = 5
"""Pairs of workers and threads that the whole pipeline is tried with."""
LONGEST_WAIT_MS = 50
MEMORY_SHARE = 0.5
"""What all workers together may take of the machine's free memory."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to be used."""

    cores: int
    gpus: int
    affordable_workers: int
    """How many processes with the module fit into its memory."""

    @property
    def devices(self) -> int:
        """How many workers can infer side by side without sharing what they infer on."""
        return self.gpus or self.cores


def worker_counts(machine: Machine) -> list[int]:
    """How many workers to try: up to one a core, on GPUs one, two and four a GPU; one is always tried."""
    cores, gpus = machine.cores, machine.gpus
    wanted = {gpus, 2 * gpus, 4 * gpus} if gpus else {*_doublings(cores), cores}
    most = min(machine.affordable_workers, max(cores, gpus))
    return sorted(count for count in wanted | {1} if count == 1 or count <= most)


def affordable_workers(worker_bytes: int, free_bytes: int) -> int:
    """How many workers of this size fit into half of the free memory."""
    return int(free_bytes * MEMORY_SHARE // max(1, worker_bytes))


def places(cores: int, workers: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of workers and threads for preparation alone: from one thread to a bit beyond the cores.

    Threads of one process share Python's lock, so that a few processes with few threads each may do more.
    """
    pairs = [(1, threads) for threads in sorted({*_doublings(cores), cores, cores + (cores + 1) // 2})]
    for count in workers:
        each = max(1, cores // count)
        pairs += [(count, threads) for threads in (each, 2 * each) if count > 1]
    return pairs


def first_combinations(
    figures: Sequence[Preparation], max_batch: int, max_wait_ms: float, infer_per_s: float, devices: int
) -> list[Combination]:
    """The most promising pairs of workers and threads, the best first, at one batch size and wait.

    A pair promises what the slower of its two halves does, preparation or inference.

    Args:
        infer_per_s: what one worker infers when it does nothing else.
        devices: how many workers infer side by side without sharing a device (cores, on the CPU).
    """
    promised = {}
    for workers in {figure.workers for figure in figures}:
        fewest = best_preparation(figures, workers)
        for figure in figures:
            if figure.workers == workers and figure.threads >= fewest.threads:
                bound = infer_per_s * min(workers, devices)
                promised[workers, figure.threads] = min(figure.images_per_s, bound)
    ranked = sorted(promised, key=lambda pair: (-promised[pair], pair))
    return [
        Combination(workers=workers, threads=threads, max_batch=max_batch, max_wait_ms=max_wait_ms)
        for workers, threads in ranked[:MOST_PLACES]
    ]


def other_batches(best: Combination, sizes: Sequence[int]) -> list[Combination]:
    """The same with the next smaller and the next larger batch."""
    smaller = [size for size in sizes if size < best.max_batch][-1:]
    larger = [size for size in sizes if size > best.max_batch][:1]
    return [replace(best, max_batch=size) for size in (*smaller, *larger)]


def other_waits(best: Combination, images_per_s: float) -> list[Combination]:
    """The same with waits from 1 ms to what filling a batch takes at the rate that was reached."""
    fill_ms = 1000 * best.max_batch * best.workers / images_per_s if images_per_s > 0 else 1.0
    waits = {min(LONGEST_WAIT_MS, max(1, round(fill_ms * share))) for share in (0.0, 0.25, 0.5, 1.0)}
    return [replace(best, max_wait_ms=float(wait)) for wait in sorted(waits) if wait != best.max_wait_ms]


def _doublings(limit: int) -> set[int]:
    return {2**power for power in range(limit.bit_length())}
