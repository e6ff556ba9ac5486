"""`analysis upload` and `analysis results`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infra.exit_codes import ExitCode

if TYPE_CHECKING:
    from producers.client import AnalysisClient
    from producers.journal import Journal
    from producers.sources import ImageSource, Selection
    from producers.upload import Tally, UploadOptions

_WAIT = "Wait for the answers and print each as it comes; the first one, or one of each --module."
_TIMEOUT = "With --wait: give up after this many seconds without any progress."
_JSON = "Print a JSON object a line; so does piped output."


def upload(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, s3:// references; - reads a list.")],
    module: Annotated[list[str] | None, typer.Option(help="A module that should answer; repeatable.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help=_WAIT)] = False,
    timeout: Annotated[float, typer.Option(min=0, help=_TIMEOUT)] = 60.0,
    json: Annotated[bool, typer.Option("--json", help=_JSON)] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Descend into folders.")] = False,
    include: Annotated[
        list[str] | None, typer.Option(help="Take these from folders (*.jpg …; by default, images).")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave these out of folders.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Files uploaded at a time.")] = 8,
    restart: Annotated[bool, typer.Option("--restart", help="Forget an interrupted run: send all.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")] = False,
) -> None:
    """Upload image files and request their analysis.

    Run again after an interruption, the same command sends what is left. Exits with 0 only if everything
    was sent (with --wait: and answered ok), 1 if some failed, 2 for wrong arguments, 3 if Kafka or the
    object store does not answer, 130 if interrupted.
    """
    from producers.sources import IMAGE_PATTERNS, Selection, expand
    from producers.upload import UploadOptions

    selection = Selection(recursive, tuple(include or IMAGE_PATTERNS), tuple(exclude or ()))
    names = _read_names(sources)
    found = expand(names, selection)
    options = UploadOptions(tuple(module or ()), concurrency, wait, timeout)
    if dry_run:
        _print_plan(found, json=json)
        return
    try:
        tally = _upload(names, selection, found, options, json=json, restart=restart, quiet=quiet)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise typer.Exit(tally.exit_code)


def results(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new results.")] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="beginning, end, -N (last N of each partition), @SECONDS, 15m (ago), or a time. "
            "By default the beginning, with --follow the end.",
        ),
    ] = None,
    module: Annotated[str | None, typer.Option(help="Only results of this module.")] = None,
    label: Annotated[str | None, typer.Option(help="Only results with this label.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Only results with such a score.")] = 0.0,
    status: Annotated[Literal["ok", "failed"] | None, typer.Option(help="Only these.")] = None,
    count: Annotated[int | None, typer.Option("--count", "-c", min=1, help="Stop after this many.")] = None,
    json: Annotated[bool, typer.Option("--json", help=_JSON)] = False,
) -> None:
    """Print results from the results topic."""
    from infra.terminal import quiet_client
    from producers.client import AnalysisClient
    from producers.output import Printer
    from producers.starts import parse_start

    quiet_client()
    begin = parse_start(start or ("end" if follow else "beginning"))
    printer = Printer(json=json)
    try:
        with AnalysisClient().results(
            begin, follow=follow, module=module, status=status, label=label, min_score=min_score
        ) as stream:
            for number, result in enumerate(stream, start=1):
                printer.result(result)
                if number == count:
                    break
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        _leave_closed_pipe()


def _upload(
    names: Sequence[str],
    selection: "Selection",
    sources: "Sequence[ImageSource]",
    options: "UploadOptions",
    *,
    json: bool,
    restart: bool,
    quiet: bool,
) -> "Tally":
    from infra.terminal import quiet_client
    from producers.client import AnalysisClient

    quiet_client()
    client = AnalysisClient(connections=options.concurrency)
    journal = _open_journal(client, names, selection, options, restart=restart)
    completed = False
    try:
        tally = _run(client, journal, sources, options, json=json, quiet=quiet)
        completed = tally.completed
    finally:
        # In this order: until the client is closed, late acknowledgements are noted.
        try:
            client.close(timeout_s=1)
        finally:
            journal.close(completed=completed)
    return tally


def _run(
    client: "AnalysisClient",
    journal: "Journal",
    sources: "Sequence[ImageSource]",
    options: "UploadOptions",
    *,
    json: bool,
    quiet: bool,
) -> "Tally":
    from producers.output import Printer, UploadRecord
    from producers.progress import ProgressReport
    from producers.upload import Upload

    printer = Printer(json=json)

    def report(record: UploadRecord) -> None:
        if record.status not in ("sent", "already_sent", "ok") or not quiet:
            printer.upload(record)

    with ProgressReport(len(sources), "answered" if options.wait else "sent", quiet=quiet) as progress:
        run = Upload(client, journal, options, report, lambda tally: progress.show(tally.done(options.wait)))
        try:
            tally = run.run(sources)
        except BrokenPipeError:
            _leave_closed_pipe()
            raise typer.Exit(ExitCode.FAILED) from None
    if not quiet:
        print(tally.summary(), file=sys.stderr)
    return tally


def _open_journal(
    client: "AnalysisClient",
    names: Sequence[str],
    selection: "Selection",
    options: "UploadOptions",
    *,
    restart: bool,
) -> "Journal":
    from infra.kafka import require_topics
    from producers.journal import Journal, journal_path
    from schemas.references import is_uri

    kafka = client.kafka
    topics = require_topics(kafka, (kafka.images_topic, kafka.results_topic, kafka.dead_letters_topic))
    arguments = sorted(name if is_uri(name) else str(Path(name).absolute()) for name in names)
    path = journal_path((topics, client.s3.uploads_bucket, arguments, options.modules, selection))
    if restart:
        path.unlink(missing_ok=True)
    journal = Journal(path)
    journal.open()
    if journal.begun is not None:
        note = f"continuing an interrupted upload: {journal.sent_count} were sent (--restart sends all again)"
        print(note, file=sys.stderr)
    return journal


def _read_names(arguments: Sequence[str]) -> list[str]:
    names: list[str] = []
    for argument in arguments:
        names += map(os.fsdecode, sys.stdin.buffer) if argument == "-" else (argument,)
    return [name for name in (name.rstrip("\r\n") for name in names) if name]


def _print_plan(sources: "Sequence[ImageSource]", *, json: bool) -> None:
    from producers.output import Printer, UploadRecord

    printer = Printer(json=json)
    for source in sources:
        printer.upload(UploadRecord(path=source.name, status="would_send"))
    print(f"{len(sources)} would be sent", file=sys.stderr)


def _leave_closed_pipe() -> None:
    """Whoever read our output has seen enough: nothing more can be written, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
