"""`analysis modules bench`."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consumers.analyzer.tuning.figures import Report


def bench(
    module: Annotated[
        str, typer.Argument(metavar="MODULE", help="A shipped name, ./folder, or package.path:Class.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="A folder of images like those to come; without it, generated ones.")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(help="GPUs to use, 0 for the CPU, or `auto`. [ANALYZER_GPUS]")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long to measure; loading the module comes on top.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw batch size against images/s and ms.")
    ] = None,
) -> None:
    """Measures a module on this machine, and says what to set.

    Inference alone, decoding with preprocess alone, then the whole pipeline, in processes as the analyzer
    starts them. Needs no Kafka and no object store.
    """
    from consumers.analyzer.tuning.bench import run_bench
    from infra.exit_codes import ExitCode
    from infra.settings import AnalyzerSettings, load

    environ = {**os.environ, "ANALYZER_MODULE": module}
    if gpus is not None:
        environ["ANALYZER_GPUS"] = gpus
    if plot is not None:
        _check_folder(plot)
    # As Ctrl-C does: the measuring processes end with this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.INTERRUPTED))
    report = run_bench(load(AnalyzerSettings, environ), images, seconds, _say)
    if plot is not None:
        _draw(report, plot)
    _print_json(report) if as_json else _print(report)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_folder(plot: Path) -> None:
    from schemas.errors import AnalysisError, ErrorCode

    if not plot.parent.is_dir():
        raise AnalysisError(ErrorCode.INPUT_NOT_FOUND, f"--plot: there is no folder {plot.parent}")


def _draw(report: "Report", plot: Path) -> None:
    from consumers.analyzer.tuning.choosing import best_batch
    from consumers.analyzer.tuning.plot import batch_plot

    subject, batches = report.subject, report.inference.batches
    title = f"{subject.module} {subject.version}, one worker on {subject.device}"
    plot.write_text(batch_plot(title, batches, best_batch(batches).size), encoding="utf-8")
    _say(f"wrote {plot}")


def _print_json(report: "Report") -> None:
    import msgspec

    typer.echo(msgspec.json.encode(report).decode())


def _print(report: "Report") -> None:
    from consumers.analyzer.tuning.printing import print_report
    from infra.terminal import table_console

    print_report(report, table_console())
