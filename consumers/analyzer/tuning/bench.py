"""One bench, from the module's name to the report."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from consumers.analyzer.devices import gpu_count
from consumers.analyzer.tuning.advice import advise
from consumers.analyzer.tuning.budget import TimeBudget
from consumers.analyzer.tuning.candidates import Machine, affordable_workers
from consumers.analyzer.tuning.figures import Report, Subject
from consumers.analyzer.tuning.fleet import Fleet
from consumers.analyzer.tuning.notes import Notes, Say, counted
from consumers.analyzer.tuning.samples import generate, image_files
from consumers.analyzer.tuning.sweep import Sweep
from infra.settings import AnalyzerSettings


def run_bench(settings: AnalyzerSettings, images: Path | None, seconds: float, say: Say) -> Report:
    """Measures the module that the settings name, on the GPUs that they leave.

    Args:
        images: a folder; without it, images are generated.
        seconds: how long to measure; starting processes comes on top.
        say: is given a line of progress now and then.

    Raises:
        AnalysisError: the module or the images are of no use.
    """
    if images is not None:
        return _measure(settings, image_files(images), str(images), seconds, say)
    with tempfile.TemporaryDirectory() as folder:
        return _measure(settings, generate(Path(folder)), "", seconds, say)


def _measure(
    settings: AnalyzerSettings, files: Sequence[Path], source: str, seconds: float, say: Say
) -> Report:
    gpus = gpu_count(settings)
    with Fleet(settings, gpus, [str(path) for path in files]) as fleet:
        loaded = fleet.first()
        for skipped in loaded.skipped:
            say(f"skipped {skipped.file}: {skipped.reason}")
        machine = Machine(
            cores=_cores(),
            gpus=gpus,
            affordable_workers=affordable_workers(loaded.memory_bytes, psutil.virtual_memory().available),
        )
        budget = TimeBudget(seconds, time.monotonic)
        figures = Sweep(fleet, machine, loaded.max_batch, settings, budget, Notes(say)).run()
    return Report(
        subject=Subject(
            module=loaded.name,
            version=loaded.version,
            device=counted(gpus, "GPU") if gpus else "the CPU",
            cores=machine.cores,
            images=len(loaded.files),
            source=source,
            skipped=loaded.skipped,
        ),
        inference=figures.inference,
        preparation=figures.preparation,
        pipeline=figures.pipeline,
        advice=advise(figures, machine.devices),
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
