from typing import cast

import pytest

from consumers.analyzer.tuning.advice import advise
from consumers.analyzer.tuning.budget import TimeBudget
from consumers.analyzer.tuning.feeding import FullLoad
from consumers.analyzer.tuning.figures import (
    Advice,
    Batch,
    BatchSweep,
    Combination,
    Latency,
    Preparation,
    Throughput,
)
from consumers.analyzer.tuning.fleet import Fleet
from consumers.analyzer.tuning.notes import Notes
from consumers.analyzer.tuning.orders import FillPipeline
from consumers.analyzer.tuning.sweep import Figures, merged
from consumers.analyzer.tuning.trials import Trials
from infra.settings import AnalyzerSettings, load
from schemas.errors import AnalysisError, ErrorCode


def combination(workers: int = 1, max_batch: int = 4) -> Combination:
    return Combination(workers=workers, threads=2, max_batch=max_batch, max_wait_ms=2.5)


class Machine:
    """A fleet and a clock: every run takes ten seconds, and each worker reaches the next of its rates."""

    def __init__(self, rates: dict[Combination, list[float | AnalysisError]]) -> None:
        self.rates = rates
        self.now = 0.0
        self.asked: list[Combination] = []

    def clock(self) -> float:
        return self.now

    def ask(self, order: FillPipeline, workers: int) -> list[FullLoad]:
        self.now += 10
        self.asked.append(order.combination)
        rate = self.rates[order.combination].pop(0)
        if isinstance(rate, AnalysisError):
            raise rate
        finished_s = [number / rate for number in range(1, int(rate * (10 + order.seconds)))]
        return [FullLoad(finished_s, finished_s[-1], 3.0)] * workers


def trials(machine: Machine, seconds: float = 1000) -> tuple[Trials, Notes]:
    notes = Notes(lambda _: None)
    return Trials(cast(Fleet, machine), TimeBudget(seconds, machine.clock), notes), notes


ONE, TWO, THREE, FOUR = (combination(workers=workers) for workers in (1, 2, 3, 4))
NO_MEMORY = AnalysisError(ErrorCode.DEVICE_OUT_OF_MEMORY, "no memory for a single image")


def test_the_workers_rates_add_up() -> None:
    tried, _ = trials(Machine({THREE: [100]}))
    tried.try_each([THREE], 1.0)
    (figure,) = tried.throughputs()
    assert figure.images_per_s == pytest.approx(300)
    assert figure.mean_batch == 3


def test_a_combination_is_tried_once() -> None:
    machine = Machine({ONE: [100], TWO: [100]})
    tried, _ = trials(machine)
    tried.try_each([ONE], 1.0)
    tried.try_each([ONE, TWO], 1.0)
    assert machine.asked == [ONE, TWO]


def test_when_time_is_up_it_is_said_what_was_not_tried() -> None:
    machine = Machine({ONE: [100], TWO: [100], THREE: [100]})
    tried, notes = trials(machine, seconds=15)
    tried.try_each([ONE, TWO, THREE], 1.0)
    assert machine.asked == [ONE, TWO]
    assert notes.remarks == ["time was up before 3 workers of 2 threads, batch 4, wait 2.5 ms"]


def test_something_is_tried_even_when_time_is_up() -> None:
    machine = Machine({ONE: [100]})
    tried, _ = trials(machine, seconds=0)
    tried.try_each([ONE, TWO], 1.0)
    assert tried.best().combination == ONE


def test_a_combination_without_memory_is_passed_over_and_named() -> None:
    tried, notes = trials(Machine({ONE: [100], TWO: [NO_MEMORY]}))
    tried.try_each([TWO, ONE], 1.0)
    assert [figure.combination for figure in tried.throughputs()] == [ONE]
    assert "no memory for 2 workers" in notes.remarks[0]


def test_without_memory_for_any_there_is_no_answer() -> None:
    tried, _ = trials(Machine({ONE: [NO_MEMORY]}))
    tried.try_each([ONE], 1.0)
    with pytest.raises(AnalysisError, match="no memory for 1 worker") as raised:
        tried.best()
    assert raised.value.code == ErrorCode.DEVICE_OUT_OF_MEMORY


def test_another_failure_ends_the_trials() -> None:
    tried, _ = trials(Machine({ONE: [AnalysisError(ErrorCode.MODULE_ERROR, "infer raised")]}))
    with pytest.raises(AnalysisError, match="infer raised"):
        tried.try_each([ONE], 1.0)


def test_the_best_ones_are_run_again_in_turns_and_luck_is_evened_out() -> None:
    machine = Machine({ONE: [100, 100, 100], TWO: [70, 40, 30], THREE: [20, 20, 20], FOUR: [1]})
    tried, _ = trials(machine, seconds=95)
    tried.try_each([ONE, TWO, THREE, FOUR], 1.0)
    assert tried.best().combination == TWO
    tried.repeat(1.0)
    assert machine.asked[4:] == [TWO, ONE, THREE, TWO, ONE, THREE]
    assert [len(figure.runs) for figure in tried.throughputs()] == [3, 3, 3, 1]
    assert tried.best().combination == ONE


def test_side_by_side_rates_add_up_and_costs_do_not() -> None:
    parts = [
        Preparation(workers=1, threads=2, images_per_s=100, cpu_ms=4),
        Preparation(workers=1, threads=2, images_per_s=300, cpu_ms=8),
    ]
    assert merged(parts) == Preparation(workers=2, threads=2, images_per_s=400, cpu_ms=7)


def advice(runs: tuple[float, ...] = (100, 110, 105), *, steady: bool = True, current: int = 2) -> Advice:
    figures = Figures(
        inference=BatchSweep(batches=(Batch(size=4, ms=2, images_per_s=80, calls=9, steady=steady),)),
        preparation=(Preparation(workers=2, threads=2, images_per_s=900, cpu_ms=1),),
        pipeline=(
            Throughput(combination=TWO, images_per_s=105, runs=runs, mean_batch=2),
            Throughput(combination=ONE, images_per_s=60, runs=(60,), mean_batch=2),
        ),
        current=combination(workers=current),
        latency=Latency(images_per_s=52, images=9, p50_ms=5, p95_ms=6, p99_ms=7),
        remarks=("something was left out",),
    )
    return advise(figures, devices=2)


def test_the_settings_are_ones_that_the_analyzer_reads() -> None:
    settings = load(AnalyzerSettings, advice().settings)
    assert settings.workers == "2"
    assert (settings.image_threads, settings.max_batch, settings.max_wait_ms) == (2, 4, 2.5)


def test_the_advice_says_what_it_rests_on() -> None:
    given = advice()
    assert given.images_per_s == given.current_images_per_s == 105
    text = " ".join(given.reasons)
    assert "of 2 combinations, 1 came within 5% of the best, 105 images/s" in text
    assert "prepare 900 images/s and infer 160 images/s: inference takes longer" in text
    assert "2 workers must have as many partitions" in text
    assert given.remarks == ("something was left out",)


def test_the_advice_says_what_speaks_against_it() -> None:
    given = advice(runs=(100, 150), steady=False, current=7)
    assert given.current_images_per_s is None
    assert any("differ by 50%" in remark for remark in given.remarks)
    assert any("batches of 4" in remark for remark in given.remarks)
