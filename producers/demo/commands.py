"""`analysis demo`: sample images through the whole service, and what came of them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.exit_codes import ExitCode

if TYPE_CHECKING:
    from producers.demo.report import StoredAnswer
    from producers.demo.samples import Sample

_ACKNOWLEDGE_S = 30.0


def demo(
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the answers.")] = 120.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; `demo` in the local stack's by default.")
    ] = None,
) -> None:
    """Send sample images and show their answers.

    Exits with 0 only if every image has its row in PostgreSQL; one of them is broken, and is answered with
    a failure.
    """
    from infra.settings import local_dir
    from infra.terminal import quiet_client
    from producers.demo.report import print_table, save_pictures
    from producers.demo.samples import make_samples

    quiet_client()
    folder = out or local_dir() / "demo"
    try:
        sent, answers = _send_and_wait(make_samples(folder / "samples"), timeout)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    print_table(sent, answers)
    pictures = save_pictures(sent, answers, folder)
    missing = [sample.name for key, sample in sent.items() if key not in {a.request_id for a in answers}]
    if missing:
        print(_what_is_missing(missing, timeout), file=sys.stderr)
        raise typer.Exit(ExitCode.FAILED)
    print(_what_next(folder, len(pictures)))


def _send_and_wait(
    samples: "list[Sample]", timeout_s: float
) -> "tuple[dict[str, Sample], list[StoredAnswer]]":
    from infra.migrations import require_migrated
    from infra.postgres import connect
    from infra.settings import DatabaseSettings, load
    from producers.client import AnalysisClient
    from producers.demo.report import wait_for_answers
    from producers.progress import ProgressReport

    connection = connect(load(DatabaseSettings), "analysis demo")
    try:
        require_migrated(connection)
        with AnalysisClient() as client:
            sent = {
                client.submit(sample.path, attributes={"file": sample.name}).request_id: sample
                for sample in samples
            }
            client.flush(_ACKNOWLEDGE_S)
        with ProgressReport(len(sent), "answered", quiet=False) as progress:
            return sent, wait_for_answers(connection, list(sent), timeout_s, progress.show)
    finally:
        connection.close()


def _what_is_missing(names: list[str], timeout_s: float) -> str:
    return (
        f"no row in PostgreSQL after {timeout_s:g} s for: {', '.join(names)}. "
        "Do the analyzer and the sink run? `analysis status` and `analysis logs` tell."
    )


def _what_next(folder: Path, pictures: int) -> str:
    return f"""
{pictures} annotated pictures are in {folder}
Try next:
  analysis upload FILES --wait    analyze images of your own
  analysis results --follow       watch results as they are committed"""
