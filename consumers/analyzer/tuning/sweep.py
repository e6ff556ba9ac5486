"""What is measured, in which order, and for how long."""

from collections.abc import Sequence

import msgspec

from consumers.analyzer.devices import worker_count
from consumers.analyzer.pipeline import default_image_threads
from consumers.analyzer.tuning.budget import TimeBudget
from consumers.analyzer.tuning.candidates import (
    Machine,
    first_combinations,
    other_batches,
    other_waits,
    places,
    worker_counts,
)
from consumers.analyzer.tuning.choosing import best_batch
from consumers.analyzer.tuning.figures import BatchSweep, Combination, Latency, Preparation, Throughput
from consumers.analyzer.tuning.fleet import Fleet
from consumers.analyzer.tuning.measuring import percentile
from consumers.analyzer.tuning.notes import Notes, counted, per_second
from consumers.analyzer.tuning.orders import Infer, PacePipeline, Prepare
from consumers.analyzer.tuning.trials import Trials
from infra.settings import AnalyzerSettings
from schemas.errors import AnalysisError

# Shares of the time by whose end each part is over; what is left is for the latency.
INFER_UNTIL = 0.15
PREPARE_UNTIL = 0.35
PLACES_UNTIL, BATCHES_UNTIL, WAITS_UNTIL = 0.55, 0.63, 0.7
REPEAT_UNTIL = 0.9

HALF_LOAD = 0.5
LEAST_LATENCY_S = 0.5


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    inference: BatchSweep
    preparation: tuple[Preparation, ...]
    pipeline: tuple[Throughput, ...]
    current: Combination
    """What the settings in force come to."""
    latency: Latency
    remarks: tuple[str, ...]


class Sweep:
    """Measures the parts alone, then the whole pipeline around what they suggest.

    Args:
        fleet: with its first process started.
        max_batch: the module's own limit.
        settings: those in force, which are tried too.
    """

    def __init__(
        self,
        fleet: Fleet,
        machine: Machine,
        max_batch: int,
        settings: AnalyzerSettings,
        budget: TimeBudget,
        notes: Notes,
    ) -> None:
        self._fleet = fleet
        self._machine = machine
        self._current = current_combination(machine, max_batch, settings)
        self._budget = budget
        self._notes = notes
        self._trials = Trials(fleet, budget, notes)

    def run(self) -> Figures:
        """Measures everything, within the time as far as single batches allow.

        Raises:
            AnalysisError: the module failed.
        """
        inference = self._infer()
        self._grow()
        preparation = self._prepare()
        self._search(preparation, inference)
        self._trials.repeat(REPEAT_UNTIL)
        return Figures(
            inference=inference,
            preparation=preparation,
            pipeline=tuple(self._trials.throughputs()),
            current=self._current,
            latency=self._latency(),
            remarks=tuple(self._notes.remarks),
        )

    def _infer(self) -> BatchSweep:
        (sweep,) = self._fleet.ask(Infer(seconds=self._budget.left(INFER_UNTIL)), 1)
        assert isinstance(sweep, BatchSweep)
        for batch in sweep.batches:
            self._notes.say(f"infer: batch {batch.size}: {per_second(batch.images_per_s)}, {batch.ms:.1f} ms")
        if sweep.ended:
            self._notes.remark(f"no larger batches alone: {sweep.ended}")
        return sweep

    def _grow(self) -> None:
        """Starts all workers that may be tried; goes on with fewer where the device has no room for more."""
        most = max(worker_counts(self._machine))
        if self._current.workers <= self._machine.affordable_workers:
            most = max(most, self._current.workers)
        with self._budget.paused():
            try:
                self._fleet.grow(most)
            except AnalysisError as error:
                loaded = counted(len(self._fleet), "worker")
                self._notes.remark(f"no more than {loaded} can be loaded side by side: {error.message}")

    def _prepare(self) -> tuple[Preparation, ...]:
        workers = [count for count in worker_counts(self._machine) if count <= len(self._fleet)]
        plan = places(self._machine.cores, workers)
        figures: list[Preparation] = []
        for number, (count, threads) in enumerate(plan):
            seconds = self._budget.left(PREPARE_UNTIL) / (len(plan) - number)
            place = f"{counted(count, 'worker')} of {counted(threads, 'thread')}"
            if figures and not seconds:
                self._notes.remark(f"time was up before preparation with {place}")
                break
            figures.append(merged(self._fleet.ask(Prepare(threads=threads, seconds=seconds), count)))
            self._notes.say(f"prepare: {place}: {per_second(figures[-1].images_per_s)}")
        return tuple(figures)

    def _search(self, preparation: Sequence[Preparation], inference: BatchSweep) -> None:
        """Tries pairs of workers and threads, then other batches and other waits around the best so far."""
        batch, sizes = best_batch(inference.batches), [batch.size for batch in inference.batches]
        ranked = first_combinations(
            preparation, batch.size, self._current.max_wait_ms, batch.images_per_s, self._machine.devices
        )
        # What is run may be advised, so it must fit into memory.
        if self._current.workers <= len(self._fleet) and self._current.max_batch <= sizes[-1]:
            ranked.insert(1, self._current)
        self._trials.try_each(ranked, PLACES_UNTIL)
        self._trials.try_each(other_batches(self._trials.best().combination, sizes), BATCHES_UNTIL)
        best = self._trials.best()
        self._trials.try_each(other_waits(best.combination, best.images_per_s), WAITS_UNTIL)

    def _latency(self) -> Latency:
        best = self._trials.best()
        workers, rate = best.combination.workers, HALF_LOAD * best.images_per_s
        order = PacePipeline(
            combination=best.combination,
            images_per_s=rate / workers,
            seconds=max(self._budget.left(), LEAST_LATENCY_S),
        )
        spent_ms = [value for part in self._fleet.ask(order, workers) for value in part]
        p50_ms, p95_ms, p99_ms = (percentile(spent_ms, share) for share in (0.5, 0.95, 0.99))
        self._notes.say(f"latency at {per_second(rate)}: p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms")
        return Latency(images_per_s=rate, images=len(spent_ms), p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms)


def current_combination(machine: Machine, max_batch: int, settings: AnalyzerSettings) -> Combination:
    """What the settings in force come to on this machine, with as many partitions as workers."""
    workers = worker_count(settings, machine.devices, machine.gpus)
    return Combination(
        workers=workers,
        threads=settings.image_threads or default_image_threads(workers),
        max_batch=min(settings.max_batch or max_batch, max_batch),
        max_wait_ms=settings.max_wait_ms,
    )


def merged(parts: Sequence[Preparation]) -> Preparation:
    """What several workers did side by side."""
    rate = sum(part.images_per_s for part in parts)
    return Preparation(
        workers=len(parts),
        threads=parts[0].threads,
        images_per_s=rate,
        cpu_ms=sum(part.cpu_ms * part.images_per_s for part in parts) / rate,
    )
