"""The rules by which settings follow from figures."""

from collections.abc import Sequence

from consumers.analyzer.tuning.figures import Batch, Preparation, Throughput

GOOD_ENOUGH = 0.95
"""What reaches this share of the best is as good as the best: among those, what costs less is chosen."""


def best_batch(batches: Sequence[Batch]) -> Batch:
    """The smallest batch within 5 % of the best images a second."""
    least = GOOD_ENOUGH * max(batch.images_per_s for batch in batches)
    return min((batch for batch in batches if batch.images_per_s >= least), key=lambda batch: batch.size)


def best_preparation(figures: Sequence[Preparation], workers: int) -> Preparation:
    """With so many workers, the fewest threads within 5 % of the best images a second."""
    mine = [figure for figure in figures if figure.workers == workers]
    least = GOOD_ENOUGH * max(figure.images_per_s for figure in mine)
    return min((figure for figure in mine if figure.images_per_s >= least), key=lambda one: one.threads)


def best_throughput(figures: Sequence[Throughput]) -> Throughput:
    """Of all within 5 % of the best: the fewest workers, then the smallest batch, the shortest wait, the
    fewest threads.
    """
    return min(contenders(figures, GOOD_ENOUGH), key=lambda figure: figure.combination)


def contenders(figures: Sequence[Throughput], share: float) -> list[Throughput]:
    """Those that reach this share of the best images a second."""
    least = share * max(figure.images_per_s for figure in figures)
    return [figure for figure in figures if figure.images_per_s >= least]
