"""`analysis up | down | status | logs | reset`."""

import os
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from infra.local.launch import State
    from infra.local.log_files import Line

_COLORS = ("cyan", "magenta", "yellow", "green", "blue", "bright_cyan", "bright_magenta")


def up(
    services_only: Annotated[
        bool, typer.Option("--services-only", help="Start the servers, not the application.")
    ] = False,
    module: Annotated[
        list[str] | None,
        typer.Option(
            "--module", help="Analyzer module to run (may be repeated); ANALYZER_MODULE by default."
        ),
    ] = None,
    brokers: Annotated[
        int | None, typer.Option(min=1, max=3, help="Kafka brokers; `analysis reset` before a change.")
    ] = None,
) -> None:
    """Start the local stack: Kafka, S3, PostgreSQL and the application.

    What runs already is left alone. The first time, Kafka is downloaded and credentials are made.
    """
    from rich.console import Console

    from infra.local.stack import local_stack

    if brokers is not None:
        os.environ["LOCAL_BROKERS"] = str(brokers)
    with Console(stderr=True).status("starting") as status:
        stack = local_stack(status.update)
        stack.up(services_only, module or ())
        states = stack.states()
    _print_states(states)


def down() -> None:
    """Stop the local stack; its data stays."""
    from rich.console import Console

    from infra.local.stack import local_stack

    console = Console(stderr=True)
    with console.status("stopping"):
        stopped = local_stack().down()
    if stopped:
        console.print("stopped " + ", ".join(stopped))


def status() -> None:
    """Show what of the local stack runs, and where; the exit code is 0 only if all of it does."""
    from infra.exit_codes import ExitCode
    from infra.local.stack import local_stack

    states = local_stack().states()
    if not states:
        typer.echo("there is no local stack yet; `analysis up` starts one", err=True)
        raise typer.Exit(ExitCode.FAILED)
    _print_states(states)
    if any(state.state != "ready" for state in states):
        raise typer.Exit(ExitCode.FAILED)


def logs(
    component: Annotated[
        str, typer.Argument(help="Only this one: kafka, s3, postgres, analyzer, sink …", show_default=False)
    ] = "",
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines of each log to begin with.")] = 50,
) -> None:
    """Show or follow the local stack's logs."""
    from infra.local.log_files import LogReader

    paths = _chosen_logs(component)
    show = _line_printer(list(paths))
    reader = LogReader(paths)
    for line in reader.last(lines):
        show(line)
    if follow:
        for line in reader.follow():
            show(line)


def reset(
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:
    """Stop the local stack and delete its data, logs and credentials."""
    from infra.local.stack import local_stack

    stack = local_stack()
    if not stack.folder.exists:
        typer.echo(f"nothing to delete: there is no stack in {stack.folder.root}", err=True)
        return
    if not yes:
        typer.confirm(f"Delete the local stack's data in {stack.folder.root}?", abort=True, err=True)
    stack.reset()


def _print_states(states: "Iterable[State]") -> None:
    from rich.table import Table

    from infra.terminal import table_console

    table = Table(box=None, pad_edge=False)
    for heading in ("COMPONENT", "STATE", "PID", "UPTIME", "MEMORY", "ADDRESS"):
        justify: Literal["left", "right"] = "right" if heading in ("PID", "UPTIME", "MEMORY") else "left"
        table.add_column(heading, justify=justify, no_wrap=heading != "ADDRESS", overflow="fold")
    for state in states:
        color = {"ready": "green", "starting": "yellow"}.get(state.state, "red")
        table.add_row(
            state.name,
            f"[{color}]{state.state}[/]",
            str(state.pid or "-"),
            _uptime(state.started_at),
            f"{state.memory_bytes / 2**20:.0f} MB" if state.memory_bytes else "-",
            state.address or "-",
        )
    table_console().print(table, highlight=False)


def _uptime(started_at: datetime | None) -> str:
    if started_at is None:
        return "-"
    seconds = round((datetime.now(UTC) - started_at).total_seconds())
    return str(timedelta(seconds=max(0, seconds)))


def _chosen_logs(component: str) -> "dict[str, Path]":
    from infra.local.stack import local_stack
    from schemas.errors import AnalysisError, ErrorCode

    found = {path.stem: path for path in sorted(local_stack().folder.logs.glob("*.log"))}
    chosen = {name: path for name, path in found.items() if component in ("", name, name.partition(".")[0])}
    if not chosen:
        known = f"; there are {', '.join(found)}" if found else "; `analysis up` starts the stack"
        raise AnalysisError(ErrorCode.INPUT_NOT_FOUND, f"no log of {component or 'any component'}{known}")
    return chosen


def _line_printer(components: list[str]) -> "Callable[[Line], None]":
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    width = max(map(len, components))
    colors = dict(zip(components, cycle(_COLORS), strict=False))

    def show(line: "Line") -> None:
        prefix = f"{line.component:{width}} | " if len(components) > 1 else ""
        console.print(Text.assemble((prefix, colors[line.component]), line.text))

    return show
