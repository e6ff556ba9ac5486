"""`analysis topics`: create the topics, and show what about them breaks the promises."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from infra.exit_codes import ExitCode
from infra.settings import KafkaSettings, TopicSettings, load
from infra.terminal import quiet_client, table_console

if TYPE_CHECKING:
    from infra.topics import Finding, TopicState

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Create and describe the Kafka topics.",
)

_SHOWN = ("min.insync.replicas", "retention.ms", "max.message.bytes", "message.timestamp.type")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Partitions of images and of results.")]
Replicas = Annotated[int | None, typer.Option(min=1, help="Copies of each partition.")]
InSync = Annotated[int | None, typer.Option(min=1, help="Copies that must have a record before it counts.")]


@app.command("create")
def create_command(
    partitions: Partitions = None,
    replication_factor: Replicas = None,
    min_insync_replicas: InSync = None,
    json: Json = False,
) -> None:
    """Create the topics that do not exist yet.

    Existing ones stay as they are; how they differ is said on stderr.
    What no option says comes from the TOPIC_… settings.
    """
    from infra import topics

    quiet_client()
    kafka, settings = load(KafkaSettings), load(TopicSettings)
    given = {
        "partitions": partitions,
        "replication_factor": replication_factor,
        "min_insync_replicas": min_insync_replicas,
    }
    wanted = msgspec.structs.replace(settings, **{k: v for k, v in given.items() if v is not None})
    created = topics.create(kafka, wanted)
    names = [spec.name for spec in topics.specs(kafka, wanted)]
    if json:
        typer.echo(msgspec.json.encode({"created": created, "topics": names}).decode())
        return
    for name in names:
        typer.echo(f"{name}: {'created' if name in created else 'exists'}")


@app.command("describe")
def describe_command(json: Json = False) -> None:
    """Show the topics and what is wrong with them.

    A problem breaks one of the service's promises, a note weakens one. Ends with 1 where there is a problem.
    """
    from infra import topics

    quiet_client()
    states = topics.describe(load(KafkaSettings))
    found = topics.findings(states)
    if json:
        typer.echo(msgspec.json.encode({"topics": states, "findings": found}).decode())
    else:
        _print(states, found)
    if any(finding.level == "problem" for finding in found):
        raise typer.Exit(ExitCode.FAILED)


def _print(states: "list[TopicState]", found: "list[Finding]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("topic", "partitions", "replicas", *_SHOWN, box=None, pad_edge=False)
    for state in states:
        cells = [state.config.get(name, "") for name in _SHOWN]
        table.add_row(state.name, str(state.partitions), str(state.replication_factor), *cells)
    console = table_console()
    console.print(table)
    for finding in found:
        style = "bold red" if finding.level == "problem" else "yellow"
        line = Text.assemble((finding.level, style), f": {finding.topic}: {finding.message}")
        console.print(line, soft_wrap=True)
