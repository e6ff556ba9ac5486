"""The one command line, `analysis …`: names each command and imports its code only when it runs."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "up": ("infra.local.commands:up", "Start the local stack: Kafka, S3, PostgreSQL and the application."),
    "down": ("infra.local.commands:down", "Stop the local stack; its data stays."),
    "status": ("infra.local.commands:status", "Show what of the local stack runs, and where."),
    "logs": ("infra.local.commands:logs", "Show or follow the local stack's logs."),
    "reset": ("infra.local.commands:reset", "Stop the local stack and delete its data."),
    "analyzer": ("consumers.analyzer.commands:analyzer", "Run the analyzer: workers that answer requests."),
    "sink": ("consumers.sink.commands:sink", "Run the sink: results into PostgreSQL."),
    "gateway": ("gateway.commands:gateway", "Run the gateway: REST and the page."),
    "upload": ("producers.commands:upload", "Upload image files and request their analysis."),
    "results": ("producers.commands:results", "Print results from the results topic."),
    "dead-letters": ("producers.dead_letter_commands:app", "See, replay or delete what nobody could answer."),
    "demo": ("producers.demo.commands:demo", "Send sample images and show their answers."),
    "modules": ("modules.commands:app", "List, check and measure analyzer modules."),
    "topics": ("infra.topic_commands:app", "Create and describe the Kafka topics."),
    "migrate": ("infra.migrations:migrate_command", "Bring the database's tables up to date."),
    "config": ("infra.config_commands:app", "Show every setting, its value and where it comes from."),
}

ADDED = {"modules": {"bench": "consumers.analyzer.tuning.commands:bench"}}
"""Commands of a group that may not import their code: `modules` knows nothing of the analyzer."""


class LazyGroup(TyperGroup):
    """Commands by name; the module behind a name is imported when that command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = _command(cmd_name, COMMANDS[cmd_name][0])
        for name, path in ADDED.get(cmd_name, {}).items():
            command.add_command(_command(name, path))
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _command(name: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name=name, help=target.__doc__)(target)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def _analysis() -> None:
    """Analyze images with neural networks: requests come and results go over Kafka."""


def main() -> None:
    """Runs the command line; an expected failure ends in one line on stderr and a documented exit code."""
    from schemas.errors import AnalysisError

    try:
        app()
    except AnalysisError as error:
        from infra.exit_codes import exit_code

        print(f"error [{error.code}]: {error.message}", file=sys.stderr)
        sys.exit(exit_code(error.code))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
