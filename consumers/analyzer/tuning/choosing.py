"""The rules by which settings follow from figures."""

from collections.abc import Sequence

from consumers.analyzer.tuning.figures import Batch, Combination, Preparation, Throughput

GOOD_ENOUGH = 0.95
"""What reaches this share of the best is as good as the best: the rest is decided by what costs less."""


def best_batch(batches: Sequence[Batch]) -> Batch:
    """The smallest batch within 5 % of the best images a second."""
    raise NotImplementedError


def best_threads(figures: Sequence[Preparation], workers: int) -> int:
    """The fewest threads for so many workers within 5 % of their best images a second."""
    raise NotImplementedError


def best_combination(figures: Sequence[Throughput]) -> Throughput:
    """Of all within 5 % of the best: the fewest workers, smallest batch, shortest wait, fewest threads."""
    raise NotImplementedError
