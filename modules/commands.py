"""`analysis modules`: list what is shipped, check anyone's module, measure how well one finds shapes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from modules.check import Report
    from modules.check_images import SampleImage

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and check analyzer modules.")

STYLES = {"passed": "green", "warning": "yellow", "failed": "bold red"}


class Decode(StrEnum):
    """At which scale JPEG files are decoded."""

    FULL = "full"
    REDUCED = "reduced"


@app.command("list")
def list_modules() -> None:
    """Lists the shipped modules: name and argument, version, and whether what they require is installed."""
    import inspect

    from modules.loading import SHIPPED_DIR, shipped_class, shipped_names
    from modules.requirements import install_command, missing

    for name in shipped_names():
        folder, cls = SHIPPED_DIR / name, shipped_class(name)
        spec = ":".join([name, *(argument.upper() for argument in inspect.signature(cls).parameters)])
        state = f"needs: {install_command(folder)}" if missing(folder) else "ready"
        typer.echo(f"{spec:<20} {getattr(cls, 'version', '-'):<8} {state}")


@app.command("check")
def check(
    module: Annotated[
        str,
        typer.Argument(metavar="MODULE", help="A shipped name, ./folder, or package.path:Class."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="A folder of images that the module finds something in, tried besides our own."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to run: cpu, or cuda:N.")] = "cpu",
    seconds: Annotated[
        float, typer.Option(min=0, help="How long each check may repeat its work; a slow leak needs more.")
    ] = 4.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Checks that a module keeps the contract, and says what to fix; exit code 0 if nothing failed."""
    from modules.check import check_module
    from modules.check_images import generated_images

    samples = generated_images() + (_read_images(images) if images else [])
    with _prints_on_stderr():
        report = check_module(module, device, samples, seconds)
    _print_json(report) if as_json else _print_lines(report)
    if not report.passed:
        raise typer.Exit(1)


@app.command("evaluate")
def evaluate(
    module: Annotated[
        str,
        typer.Argument(metavar="MODULE", help="`shapes`, or any other module that answers with its labels."),
    ],
    images: Annotated[int, typer.Option(min=1, help="How many images to draw.")] = 1000,
    seed: Annotated[
        int, typer.Option(help="Of the images; those of seed 1 are what `shapes` learnt from.")
    ] = 2,
    side: Annotated[int, typer.Option(min=64, help="Their longer side in pixels.")] = 640,
    decode: Annotated[
        Decode, typer.Option(help="Whether their JPEG files are decoded at the scale that the module allows.")
    ] = Decode.FULL,
    device: Annotated[str, typer.Option(help="Where to run: cpu, or cuda:N.")] = "cpu",
    floor: Annotated[float, typer.Option(help="The exit code is 1 where mAP@0.5 is below this.")] = 0.0,
) -> None:
    """Measures how precisely a module finds drawn circles, squares, triangles and stars: mAP@0.5."""
    from modules.loading import load_model, load_module
    from modules.shapes.evaluation import HeldOut, evaluate, lines

    with _prints_on_stderr():
        loaded = load_module(module)
        load_model(loaded, device)
        found = evaluate(
            loaded, HeldOut(images=images, seed=seed, side_px=side), reduced=decode == Decode.REDUCED
        )
    typer.echo("\n".join(lines(found)))
    if found.mean_precision < floor:
        raise typer.Exit(1)


def _read_images(folder: Path) -> "list[SampleImage]":
    from modules.check_images import images_in
    from schemas.errors import AnalysisError, ErrorCode

    found = images_in(folder) if folder.is_dir() else []
    if not found:
        what = "holds no image" if folder.is_dir() else "is no folder"
        raise AnalysisError(ErrorCode.INPUT_NOT_FOUND, f"--images: {folder} {what}")
    return found


def _print_json(report: "Report") -> None:
    import msgspec

    typer.echo(msgspec.json.encode(report).decode())


def _print_lines(report: "Report") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for finding in report.findings:
        verdict = Text(f"{finding.verdict:<8}", STYLES[finding.verdict])
        console.print(Text.assemble(verdict, f" {finding.check:<22} ", finding.message))
    failed = sum(1 for finding in report.findings if finding.verdict == "failed")
    console.print(f"{report.module}: {failed} failed" if failed else f"{report.module}: keeps the contract")


@contextmanager
def _prints_on_stderr() -> Iterator[None]:
    """Sends what the module and its child process print to stderr: stdout is for the report."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
