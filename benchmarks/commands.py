"""The commands: one for each file of results, two for all of them, and one for the document."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks import document
from benchmarks.errors import BenchmarkError
from benchmarks.figures import RESULTS
from benchmarks.growth import BACKLOGS
from benchmarks.images import DISTINCT
from benchmarks.peers.base import PeerFailed
from benchmarks.peers.catalog import PEERS
from benchmarks.plan import MODULES, Plan
from benchmarks.progress import say
from benchmarks.session import Session
from benchmarks.usage import Servers
from benchmarks.workload import workplace
from schemas.errors import AnalysisError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

CONTENDERS = tuple(peer.name for peer in PEERS)
HEADLINE = Plan(peers=CONTENDERS, rows=("shapes",), rounds=3, seconds=6.0)
FULL = Plan(peers=CONTENDERS, rows=tuple(MODULES), rounds=5, seconds=12.0)


class Options(NamedTuple):
    """What holds for every command."""

    results: Path
    distinct: int


Modules = Annotated[str, typer.Option("--modules", help=f"Some of {', '.join(MODULES)}.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Worker processes of each contender.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Rounds; figures are their medians.")]
Seconds = Annotated[float, typer.Option("--seconds", min=1, help="About how long one run takes.")]
Images = Annotated[
    int, typer.Option("--images", min=0, help="Images of a run; 0 takes as many as --seconds allow.")
]
ALL_MODULES = ",".join(MODULES)


@app.callback()
def options(
    context: typer.Context,
    results: Annotated[Path, typer.Option("--results", help="Folder of the files with figures.")] = RESULTS,
    distinct: Annotated[
        int, typer.Option("--distinct", min=1, help="How many different images there are.")
    ] = DISTINCT,
) -> None:
    """Benchmarks: each command measures on the local stack and writes a file of figures."""
    context.obj = Options(results, distinct)


@app.command("end-to-end")
def end_to_end_command(
    context: typer.Context,
    modules: Modules = ALL_MODULES,
    peers: Annotated[
        str, typer.Option("--peers", help=f"Whom to compare with: some of {', '.join(CONTENDERS)}.")
    ] = ",".join(CONTENDERS),
    rows: Annotated[
        str, typer.Option("--rows", help="Modules to measure until rows are in PostgreSQL, too.")
    ] = "shapes",
    rounds: Rounds = HEADLINE.rounds,
    seconds: Seconds = HEADLINE.seconds,
    images: Images = 0,
    workers: Workers = 2,
) -> None:
    """Images a second, from a preloaded topic to the last committed result; and the bounds."""
    plan = Plan(
        modules=_names(modules, tuple(MODULES)),
        peers=_names(peers, CONTENDERS),
        rows=_names(rows, tuple(MODULES)),
        rounds=rounds,
        seconds=seconds,
        images=images or None,
        workers=workers,
    )
    with _session(context) as session:
        session.compare(plan)


@app.command("bounds")
def bounds_command(context: typer.Context, modules: Modules = ALL_MODULES, workers: Workers = 2) -> None:
    """What fetching, decoding, the module and the servers take alone."""
    with _session(context) as session:
        session.limit(_names(modules, tuple(MODULES)), workers)


@app.command("latency")
def latency_command(
    context: typer.Context, modules: Modules = ALL_MODULES, seconds: Seconds = 10.0, workers: Workers = 2
) -> None:
    """Time from publishing to the committed result, at 20, 50 and 80 % of the rate in end_to_end.json."""
    with _session(context) as session:
        session.delay(_names(modules, tuple(MODULES)), seconds, workers)


@app.command("scaling")
def scaling_command(
    context: typer.Context, modules: Modules = "dummy,simulated", seconds: Seconds = 8.0
) -> None:
    """Rates with 1 to 8 partitions and workers."""
    with _session(context) as session:
        session.scale(_names(modules, tuple(MODULES)), seconds)


@app.command("backlog")
def backlog_command(
    context: typer.Context,
    modules: Modules = "dummy",
    at_most: Annotated[int, typer.Option("--at-most", min=1000, help="Leaves out larger backlogs.")] = 10_000,
) -> None:
    """Rate and CPU an image with 1,000 to 100,000 requests waiting."""
    with _session(context) as session:
        session.pile_up(_names(modules, tuple(MODULES)), at_most)


@app.command("memory")
def memory_command(
    context: typer.Context,
    modules: Modules = "dummy",
    images: Annotated[int, typer.Option("--images", min=3000, help="Images to work through.")] = 5_000,
) -> None:
    """Memory of a worker over many images."""
    with _session(context) as session:
        session.remember(_names(modules, tuple(MODULES)), images)


@app.command("startup")
def startup_command(context: typer.Context, modules: Modules = ALL_MODULES, rounds: Rounds = 3) -> None:
    """Time from the start of the process until all workers are ready."""
    with _session(context) as session:
        session.start_up(_names(modules, tuple(MODULES)), rounds)


@app.command("stages")
def stages_command(
    context: typer.Context, modules: Modules = ALL_MODULES, seconds: Seconds = 8.0, workers: Workers = 2
) -> None:
    """How busy each stage is, how full the batches are, and whose CPU an image takes."""
    with _session(context) as session:
        session.dissect(_names(modules, tuple(MODULES)), seconds, workers)


@app.command("headline")
def headline_command(context: typer.Context) -> None:
    """What `make bench` runs: the comparison, its bounds, latency, start-up and stages."""
    with _session(context) as session:
        session.compare(HEADLINE)
        session.start_up(HEADLINE.modules, 1)
        session.dissect(HEADLINE.modules, 2 * HEADLINE.seconds, HEADLINE.workers)
        session.delay(HEADLINE.modules, 10.0, HEADLINE.workers)
    _update_document(context)


@app.command("full")
def full_command(context: typer.Context) -> None:
    """What `make bench-full` runs: everything, with more and longer rounds."""
    with _session(context) as session:
        session.compare(FULL)
        session.start_up(FULL.modules, FULL.rounds)
        session.dissect(FULL.modules, FULL.seconds, FULL.workers)
        session.delay(FULL.modules, 30.0, FULL.workers)
        session.scale(("dummy", "simulated"), FULL.seconds)
        session.pile_up(("dummy",), max(BACKLOGS))
        session.remember(("dummy", "shapes"), 50_000)
    _update_document(context)


@app.command("document")
def document_command() -> None:
    """Write the tables and plots of docs/benchmarks.md from benchmarks/results/*.json."""
    document.write()


def _update_document(context: typer.Context) -> None:
    """Writes the document, unless the figures went elsewhere than to the files that it is made of."""
    if context.obj.results == RESULTS:
        document.write()


@contextmanager
def _session(context: typer.Context) -> Iterator[Session]:
    """Images, a database and the servers; what a person can put right is told in a sentence."""
    # The contenders' processes are in sessions of their own: however this one ends, it has to end them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        servers = Servers()
        say("drawing and storing the images")
        with workplace(context.obj.distinct) as place:
            yield Session(place, servers, context.obj.results)
    except (AnalysisError, BenchmarkError, PeerFailed) as error:
        say(f"error: {error}")
        raise typer.Exit(1) from None


def _names(given: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}")
    return names
