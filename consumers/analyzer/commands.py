"""`analysis analyzer`."""

import sys
from typing import Annotated

import typer


def analyzer(
    module: Annotated[
        str | None,
        typer.Option(
            "--module", "-m", help="A shipped name, ./folder or package.path:Class. [ANALYZER_MODULE]"
        ),
    ] = None,
    workers: Annotated[
        str | None, typer.Option("--workers", "-w", help="Worker processes, or `auto`. [ANALYZER_WORKERS]")
    ] = None,
) -> None:
    """Run the analyzer: workers that answer requests with one module.

    SIGTERM finishes what was begun (ANALYZER_DRAIN_TIMEOUT_S) and ends; a second signal ends at once.
    """
    import os

    from consumers.analyzer.supervisor import Supervisor
    from infra import logs
    from infra.settings import AnalyzerSettings, KafkaSettings, S3Settings, load

    logs.configure()
    given = {"ANALYZER_MODULE": module, "ANALYZER_WORKERS": workers}
    environ = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    supervisor = Supervisor(
        load(AnalyzerSettings, environ), load(KafkaSettings, environ), load(S3Settings, environ)
    )
    sys.exit(supervisor.run())
