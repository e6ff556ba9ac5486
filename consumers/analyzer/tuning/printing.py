"""The report for people: tables with bars, and the lines to set."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.analyzer.tuning.choosing import best_batch, best_throughput
from consumers.analyzer.tuning.figures import Advice, BatchSweep, Preparation, Report, Throughput
from consumers.analyzer.tuning.notes import per_second

_BAR_WIDTH = 24
_MEBIBYTE = 2**20


def print_report(report: Report, console: Console) -> None:
    """Prints the tables and the advice."""
    subject = report.subject
    source = subject.source or "generated photographs; give your own with --images"
    console.print(
        f"{subject.module} {subject.version} on {subject.device}, {subject.cores} cores, "
        f"{subject.images} images ({source})",
        style="bold",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for table in (_inference(report.inference), _preparation(report.preparation), _pipeline(report.pipeline)):
        console.print()
        console.print(table)
    console.print()
    _print_advice(report.advice, console)


def _inference(sweep: BatchSweep) -> Table:
    table = _table("Inference alone, one worker", "batch", "images/s", "", "ms", "memory")
    best = best_batch(sweep.batches)
    most = max(batch.images_per_s for batch in sweep.batches)
    for batch in sweep.batches:
        memory = "" if batch.memory_bytes is None else f"{batch.memory_bytes / _MEBIBYTE:.0f} MiB"
        table.add_row(
            str(batch.size),
            _number(batch.images_per_s),
            _bar(batch.images_per_s / most, chosen=batch is best),
            f"{batch.ms:.2f}" + ("" if batch.steady else " ±"),
            memory,
        )
    return table


def _preparation(figures: Sequence[Preparation]) -> Table:
    table = _table("Decoding and preprocess alone", "workers", "threads", "images/s", "", "CPU ms")
    most = max(figure.images_per_s for figure in figures)
    for figure in figures:
        table.add_row(
            str(figure.workers),
            str(figure.threads),
            _number(figure.images_per_s),
            _bar(figure.images_per_s / most),
            f"{figure.cpu_ms:.2f}",
        )
    return table


def _pipeline(figures: Sequence[Throughput]) -> Table:
    table = _table(
        "The whole pipeline", "workers", "threads", "batch", "wait ms", "images/s", "", "mean batch", "runs"
    )
    best = best_throughput(figures)
    most = max(figure.images_per_s for figure in figures)
    for figure in figures:
        combination = figure.combination
        table.add_row(
            str(combination.workers),
            str(combination.threads),
            str(combination.max_batch),
            f"{combination.max_wait_ms:g}",
            _number(figure.images_per_s),
            _bar(figure.images_per_s / most, chosen=figure is best),
            f"{figure.mean_batch:.1f}",
            _runs(figure),
        )
    return table


def _print_advice(advice: Advice, console: Console) -> None:
    latency = advice.latency
    console.print("[bold]Set[/]", highlight=False)
    for name, value in advice.settings.items():
        console.print(f"{name}={value}", highlight=False)
    console.print()
    half = ", ".join(
        f"{share} in {ms:.0f} ms"
        for share, ms in (("half", latency.p50_ms), ("95 %", latency.p95_ms), ("99 %", latency.p99_ms))
    )
    lines = [
        f"Expect {per_second(advice.images_per_s)}, less the CPU that Kafka and the object store take.",
        f"At {per_second(latency.images_per_s)}, arriving at random, are answered {half}.",
    ]
    if advice.current_images_per_s is not None:
        lines.append(f"With the settings in force it is {per_second(advice.current_images_per_s)}.")
    for line in (*lines, *(f"- {reason}." for reason in (*advice.reasons, *advice.remarks))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _bar(share: float, *, chosen: bool = False) -> Text:
    return Text("█" * max(1, round(share * _BAR_WIDTH)), "green" if chosen else "blue")


def _number(images_per_s: float) -> str:
    return per_second(images_per_s).partition(" ")[0]


def _runs(figure: Throughput) -> str:
    if len(figure.runs) == 1:
        return "1"
    return f"{len(figure.runs)}: {_number(min(figure.runs))} to {_number(max(figure.runs))}"
