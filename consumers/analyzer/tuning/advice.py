"""From figures to settings, with the reasons in words."""

from consumers.analyzer.tuning.choosing import (
    GOOD_ENOUGH,
    best_batch,
    best_preparation,
    best_throughput,
    contenders,
)
from consumers.analyzer.tuning.figures import Advice, Combination, Throughput
from consumers.analyzer.tuning.notes import counted, per_second
from consumers.analyzer.tuning.sweep import Figures
from infra.settings import AnalyzerSettings, variable

DOUBTFUL_SPREAD = 0.2


def advise(figures: Figures, devices: int) -> Advice:
    """What to set, by the rules of `choosing`.

    Args:
        devices: how many workers infer side by side without sharing what they infer on.
    """
    best = best_throughput(figures.pipeline)
    current = [one.images_per_s for one in figures.pipeline if one.combination == figures.current]
    return Advice(
        settings=settings_of(best.combination),
        images_per_s=best.images_per_s,
        latency=figures.latency,
        current_images_per_s=current[0] if current else None,
        reasons=(
            _why_this(figures.pipeline, best),
            _what_limits(figures, best, devices),
            f"{counted(best.combination.workers, 'worker')} must have as many partitions of the images topic",
        ),
        remarks=(*figures.remarks, *_doubts(figures, best)),
    )


def settings_of(combination: Combination) -> dict[str, str]:
    """A combination as environment variables."""
    values = {
        "workers": str(combination.workers),
        "max_batch": str(combination.max_batch),
        "max_wait_ms": f"{combination.max_wait_ms:g}",
        "image_threads": str(combination.threads),
    }
    return {variable(AnalyzerSettings, field): value for field, value in values.items()}


def _why_this(pipeline: tuple[Throughput, ...], best: Throughput) -> str:
    most = max(one.images_per_s for one in pipeline)
    good = len(contenders(pipeline, GOOD_ENOUGH))
    return (
        f"of {counted(len(pipeline), 'combination')}, {good} came within {1 - GOOD_ENOUGH:.0%} of the best, "
        f"{per_second(most)}; the choice among those: fewest workers, then the smallest batch, the shortest "
        "wait, the fewest threads"
    )


def _what_limits(figures: Figures, best: Throughput, devices: int) -> str:
    workers = best.combination.workers
    prepared = best_preparation(figures.preparation, workers).images_per_s
    inferred = best_batch(figures.inference.batches).images_per_s * min(workers, devices)
    slower = "preparing them" if prepared < inferred else "inference"
    return (
        f"each alone, {counted(workers, 'worker')} can prepare {per_second(prepared)} and infer "
        f"{per_second(inferred)}: {slower} takes longer"
    )


def _doubts(figures: Figures, best: Throughput) -> list[str]:
    doubts = []
    unsteady = [str(batch.size) for batch in figures.inference.batches if not batch.steady]
    if unsteady:
        doubts.append(f"the times of single calls did not settle (±) for batches of {', '.join(unsteady)}")
    spread = max(best.runs) / min(best.runs) - 1
    if spread > DOUBTFUL_SPREAD:
        doubts.append(
            f"the runs of the chosen combination differ by {spread:.0%}: other programs use this machine, or "
            "the time was short; try again with more --seconds"
        )
    return doubts
