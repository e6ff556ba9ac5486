"""`analysis modules bench`."""

from pathlib import Path
from typing import Annotated

import typer


def bench(
    module: Annotated[
        str, typer.Argument(metavar="MODULE", help="A shipped name, ./folder, or package.path:Class.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="A folder of images like those to come; without it, generated ones.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to run: cpu or cuda; without it, as the analyzer would.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long to measure; loading the module comes on top.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw batch size against images/s and ms.")
    ] = None,
) -> None:
    """Measures a module on this machine, and says which ANALYZER_ settings suit it; needs no Kafka and no S3."""
    raise NotImplementedError
