"""Combinations of settings, tried on the whole pipeline."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from consumers.analyzer.tuning.budget import TimeBudget
from consumers.analyzer.tuning.choosing import best_throughput, contenders
from consumers.analyzer.tuning.feeding import FullLoad
from consumers.analyzer.tuning.figures import Combination, Throughput
from consumers.analyzer.tuning.fleet import Fleet
from consumers.analyzer.tuning.measuring import steady_rate
from consumers.analyzer.tuning.notes import Notes, counted, per_second
from consumers.analyzer.tuning.orders import FillPipeline
from schemas.errors import AnalysisError, ErrorCode

WARM_SHARE = 0.25
"""Of each run, what is not counted."""
WORTH_REPEATING, LEAST_REPEATED = 0.9, 3
"""What reaches this share of the best is run again, and so many at least: their order may be chance."""
LONGEST_REPEAT_S = 2.0


class Trials:
    """Runs combinations under full load, and keeps what they reached."""

    def __init__(self, fleet: Fleet, budget: TimeBudget, notes: Notes) -> None:
        self._fleet = fleet
        self._budget = budget
        self._notes = notes
        self._rates: dict[Combination, list[float]] = defaultdict(list)
        self._batches: dict[Combination, list[float]] = defaultdict(list)

    def try_each(self, combinations: Sequence[Combination], until: float) -> None:
        """Runs those that were not tried yet, while this share of the time lasts; the very first in any case.

        Raises:
            AnalysisError: the module failed; want of memory for a combination is only noted.
        """
        fresh = [combination for combination in combinations if combination not in self._rates]
        for number, combination in enumerate(fresh):
            seconds = self._budget.left(until) / (len(fresh) - number)
            if self._rates and not seconds:
                self._notes.remark(f"time was up before {described(combination)}")
                return
            self._run(combination, seconds)

    def repeat(self, until: float) -> None:
        """Runs what came close to the best again, in turns, while this share of the time lasts."""
        figures = sorted(self.throughputs(), key=lambda figure: -figure.images_per_s)
        count = max(LEAST_REPEATED, len(contenders(figures, WORTH_REPEATING)))
        close = [figure.combination for figure in figures[:count]]
        seconds = min(self._budget.left(until) / len(close), LONGEST_REPEAT_S)
        turns = itertools.cycle(close)
        while self._budget.left(until):
            self._run(next(turns), seconds)

    def best(self) -> Throughput:
        """The best so far, by the rule for it."""
        return best_throughput(self.throughputs())

    def throughputs(self) -> list[Throughput]:
        """All that were tried.

        Raises:
            AnalysisError: the device had no memory for any.
        """
        if not self._rates:
            raise AnalysisError(ErrorCode.DEVICE_OUT_OF_MEMORY, "; ".join(self._notes.remarks))
        return [
            Throughput(
                combination=combination,
                images_per_s=median(rates),
                mean_batch=fmean(self._batches[combination]),
                runs=tuple(rates),
            )
            for combination, rates in self._rates.items()
        ]

    def _run(self, combination: Combination, seconds: float) -> None:
        order = FillPipeline(combination=combination, seconds=seconds)
        try:
            loads: list[FullLoad] = self._fleet.ask(order, combination.workers)
        except AnalysisError as error:
            if error.code != ErrorCode.DEVICE_OUT_OF_MEMORY:
                raise
            self._notes.remark(f"the device has no memory for {described(combination)}")
            return
        rate = sum(rate_of(load, combination.max_batch, seconds) for load in loads)
        self._rates[combination].append(rate)
        self._batches[combination].append(fmean(load.mean_batch for load in loads))
        self._notes.say(f"pipeline: {described(combination)}: {per_second(rate)}")


def rate_of(load: FullLoad, max_batch: int, seconds: float) -> float:
    """Images a second under full load: without the beginning, its first batch at least, and the end."""
    since_s = max(WARM_SHARE * seconds, load.finished_s[max_batch - 1])
    return steady_rate(load.finished_s, since_s, load.fed_s)


def described(combination: Combination) -> str:
    """A combination in words."""
    return (
        f"{counted(combination.workers, 'worker')} of {counted(combination.threads, 'thread')}, "
        f"batch {combination.max_batch}, wait {combination.max_wait_ms:g} ms"
    )
