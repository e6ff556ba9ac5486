"""The project's own processes that `analysis up` runs beside the servers."""

import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from infra.lifecycle import READY_FILE
from infra.local.component import LOOPBACK, Component, Port
from infra.local.process import Command
from infra.local.state import StackFolder
from infra.settings import AnalyzerSettings, LocalSettings, load
from schemas.errors import AnalysisError, ErrorCode

# After the drain time a process needs a moment to leave its groups and close its connections.
_MARGIN_S = 10.0


class Application(Component):
    """One `analysis …` command as a background process, ready when it says so in a file."""

    # A module may load a large model first.
    start_timeout_s = 300.0

    def __init__(
        self,
        name: str,
        folder: StackFolder,
        drain_s: float,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        ports: tuple[Port, ...] = (),
    ) -> None:
        super().__init__(name, f"http://{LOOPBACK}:{ports[0].number}" if ports else "", ports)
        self.stop_steps = ((signal.SIGTERM, drain_s + _MARGIN_S),)
        self._ready_file = folder.ready_file(name)
        self._arguments = tuple(arguments)
        self._environment = environment or {}

    def prepare(self) -> None:
        self._ready_file.unlink(missing_ok=True)

    def command(self) -> Command:
        return Command(
            # -P: a file `analysis.py` or a folder `schemas` where the user stands is not ours.
            argv=(sys.executable, "-P", "-m", "analysis", *self._arguments),
            env={**self._environment, READY_FILE: str(self._ready_file), "PYTHONUNBUFFERED": "1"},
            # Where the user stands: a module may be named as `./folder`.
            cwd=Path.cwd(),
        )

    def ready(self) -> bool:
        return self._ready_file.exists()


def application(
    folder: StackFolder, stack: Mapping[str, str], modules: Sequence[str], settings: AnalyzerSettings
) -> tuple[Application, ...]:
    """The processes of the application: an analyzer for each module, the sink and the gateway.

    Args:
        stack: settings that lead to the local servers; they take precedence over the environment.

    Raises:
        AnalysisError: two modules have the same name.
    """
    environment = {**os.environ, **_without_proxy(os.environ), **stack, "LOCAL_DIR": str(folder.root)}
    commands: dict[str, tuple[str, ...]] = {}
    commands |= {f"analyzer.{_short_name(module)}": ("analyzer", "--module", module) for module in modules}
    if len(commands) < len(modules):
        raise AnalysisError(ErrorCode.USAGE, f"two of the modules {', '.join(modules)} have the same name")
    commands |= {"sink": ("sink",), "gateway": ("gateway",)}
    return tuple(
        Application(name, folder, settings.drain_timeout_s, arguments, environment, _ports(name, environment))
        for name, arguments in commands.items()
    )


def recorded_application(
    folder: StackFolder, names: Iterable[str], settings: AnalyzerSettings
) -> tuple[Application, ...]:
    """Processes of the application that were started earlier, to look at and to stop."""
    return tuple(
        Application(name, folder, settings.drain_timeout_s, ports=_ports(name, os.environ)) for name in names
    )


def _ports(name: str, environment: Mapping[str, str]) -> tuple[Port, ...]:
    if name != "gateway":
        return ()
    return (Port(load(LocalSettings, environment).gateway_port, "LOCAL_GATEWAY_PORT"),)


def _without_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """Lets no proxy stand before the local servers; a library may read either of the two names."""
    given = (environ.get("NO_PROXY"), environ.get("no_proxy"), LOOPBACK)
    hosts = ",".join(dict.fromkeys(filter(None, given)))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def _short_name(module: str) -> str:
    last = re.split(r"[/:]", module.rstrip("/"))[-1]
    return re.sub(r"[^A-Za-z0-9_-]", "_", last) or "module"
