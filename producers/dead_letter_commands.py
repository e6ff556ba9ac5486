"""`analysis dead-letters`: see what nobody could answer, publish it again, delete it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from infra.exit_codes import ExitCode
from infra.settings import KafkaSettings, S3Settings, load
from infra.terminal import quiet_client, table_console

if TYPE_CHECKING:
    from producers.dead_letters import Letter, Original, Selection

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="See what nobody could answer, publish it again, delete it.",
)

Code = Annotated[str | None, typer.Option(help="Only letters with this code, see docs/errors.md.")]
Component = Annotated[str | None, typer.Option(help="Only letters of this component, e.g. analyzer.faces.")]
Since = Annotated[str | None, typer.Option(help="Only letters from this time on: 15m (ago), or a time.")]
Until = Annotated[str | None, typer.Option(help="Only letters before this time.")]
SINK = "sink"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_command(
    code: Code = None,
    component: Component = None,
    since: Since = None,
    until: Until = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what was not published again.")] = False,
    json: Json = False,
) -> None:
    """Show the dead letters, oldest first."""
    letters = _letters(_selection((), code, component, since, until))
    letters = sorted(
        (letter for letter in letters if not waiting or letter.state == "waiting"),
        key=lambda letter: (letter.reason.failed_at or datetime.min.replace(tzinfo=UTC), letter.id),
    )
    if json:
        for letter in letters:
            typer.echo(msgspec.json.encode(_as_json(letter)).decode())
        return
    heads = ("ID", "FAILED AT", "CODE", "COMPONENT", "SOURCE", "ATTEMPTS", "REPLAYS", "STATE", "MESSAGE")
    _print_table(heads, [_row(letter) for letter in letters])


@app.command("show")
def show_command(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it, e.g. 0-15.")],
    image: Annotated[Path | None, typer.Option(help="Save the image that it asks for to this file.")] = None,
    json: Json = False,
) -> None:
    """Show one dead letter whole: the reason, its headers and its value."""
    from producers.dead_letters import DeadLetterBox, LetterId
    from producers.errors import InvalidArgument

    quiet_client()
    wanted = LetterId.parse(letter_id)
    original = next(DeadLetterBox(load(KafkaSettings)).originals([wanted]), None)
    if original is None:
        raise InvalidArgument(f"there is no dead letter {letter_id}")
    if json:
        typer.echo(msgspec.json.encode(_whole(original)).decode())
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(_whole(original)), indent=2).decode())
    if image is not None:
        _save_image(original, image)


@app.command("replay")
def replay_command(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="These; also what was set aside.")
    ] = None,
    code: Code = None,
    component: Component = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Letters a second at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show how many, by reason.")] = False,
) -> None:
    """Publish dead letters again, where they came from; their answers take the place of the failed ones.

    Run again after an interruption, the command goes on: no letter is published twice. What has come back
    three times is set aside, unless its id is named; letters of the sink go out only with --component sink.
    """
    from producers.dead_letters import DeadLetterBox, Replayer, histogram

    quiet_client()
    selection = _selection(letter_ids or (), code, component, since, until)
    kafka = load(KafkaSettings)
    # A dry run must not end a replay that is at work.
    replayer = None if dry_run else Replayer(kafka)
    found = (replayer or DeadLetterBox(kafka)).letters(selection)
    named = bool(letter_ids)
    if not named and component is None:
        # What the sink could not store is on the results topic already.
        found = [one for one in found if one.reason.component != SINK]
    chosen = [one for one in found if one.state == "waiting" or (named and one.state == "set_aside")]
    counts = histogram(chosen)
    rows = [(component_, code_, str(count)) for (component_, code_), count in counts.most_common()]
    _print_table(("COMPONENT", "CODE", "LETTERS"), rows)
    aside = 0 if named else sum(one.state == "set_aside" for one in found)
    if aside:
        typer.echo(f"{aside} are set aside: cut, or back too often; name their ids to replay them", err=True)
    if replayer is None:
        typer.echo(f"{len(chosen)} would be published again", err=True)
        return
    replayed = replayer.replay(chosen, rate)
    for letter_id, why in replayed.refused:
        typer.echo(f"{letter_id} cannot be published again: {why}", err=True)
    typer.echo(f"{replayed.published} published again", err=True)
    if replayed.refused:
        raise typer.Exit(ExitCode.FAILED)


@app.command("purge")
def purge_command(
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete dead letters for good, all of them or the oldest."""
    from producers.dead_letters import purge

    quiet_client()
    if not yes and not typer.confirm(f"Delete {'all' if until is None else 'the oldest'} dead letters?"):
        raise typer.Exit(ExitCode.FAILED)
    typer.echo(f"{purge(load(KafkaSettings), _moment(until))} records deleted", err=True)


def _selection(
    ids: Any, code: str | None, component: str | None, since: str | None, until: str | None
) -> "Selection":
    from producers.dead_letters import LetterId, Selection
    from producers.errors import InvalidArgument

    if ids and (code or component or since or until):
        raise InvalidArgument("name letters by id or by what they have in common, not both")
    return Selection(
        ids=frozenset(LetterId.parse(text) for text in ids),
        code=code,
        component=component,
        since=_moment(since),
        until=_moment(until),
    )


def _letters(selection: "Selection") -> "list[Letter]":
    from producers.dead_letters import DeadLetterBox

    quiet_client()
    return DeadLetterBox(load(KafkaSettings)).letters(selection)


def _moment(text: str | None) -> datetime | None:
    from producers.errors import InvalidArgument
    from producers.starts import parse_start

    if text is None:
        return None
    moment = parse_start(text)
    if not isinstance(moment, datetime):
        raise InvalidArgument(f"{text!r} is no time: 15m (ago), @SECONDS or 2026-01-31T12:00")
    return moment


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    table_console().print(table)


def _source(letter: "Letter") -> str:
    reason = letter.reason
    return f"{reason.topic or '?'}[{reason.partition}]@{reason.offset}"


def _row(letter: "Letter") -> tuple[str, ...]:
    from producers.output import printable

    reason = letter.reason
    failed_at = "-" if reason.failed_at is None else reason.failed_at.astimezone().isoformat(" ", "seconds")
    return tuple(
        printable(text)
        for text in (
            str(letter.id),
            failed_at,
            reason.code or "-",
            reason.component or "-",
            _source(letter),
            str(reason.attempts or "-"),
            str(letter.replays),
            letter.state,
            reason.message or "-",
        )
    )


def _as_json(letter: "Letter") -> dict[str, Any]:
    return {**msgspec.to_builtins(letter), "id": str(letter.id)}


def _whole(original: "Original") -> dict[str, Any]:
    return {
        **_as_json(original.letter),
        "headers": [[name, _text(value)] for name, value in original.headers],
        "key": _text(original.key),
        "value": _text(original.value),
    }


def _text(value: bytes | None) -> str | None:
    """Bytes as they are where they are text, and otherwise in Python's notation."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return repr(value)


def _save_image(original: "Original", file: Path) -> None:
    from infra.s3 import make_client
    from schemas.intake import read_record
    from schemas.messages import RecordPosition

    settings = load(S3Settings)
    reason = original.letter.reason
    position = RecordPosition(
        "", reason.topic or "", reason.partition or 0, reason.offset or 0, datetime.now(UTC)
    )
    intake = read_record(original.value, original.headers, position, settings.allowed_buckets)
    for item in intake.items[:1]:
        image = item.request.image
        version: Any = {} if image.version_id is None else {"VersionId": image.version_id}
        body = make_client(settings).get_object(Bucket=image.bucket, Key=image.key, **version)["Body"]
        file.write_bytes(body.read())
        typer.echo(f"s3://{image.bucket}/{image.key} is saved in {file}", err=True)
