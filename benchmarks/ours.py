"""This project's analyzer as a contender like the others, alone or with its sink."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.peers.base import Job, Peer, Running
from benchmarks.peers.running import Process, launch
from infra.lifecycle import READY_FILE
from infra.settings import Settings, variable

_INHERITED = ("ANALYZER_", "LOG_")


class Ours(Peer):
    """`analysis analyzer` with its defaults; what ANALYZER_… of this environment says holds.

    Args:
        with_rows: runs `analysis sink` too, so that results end as rows of the table `results`.
        changes: settings of the analyzer that differ, by variable.
    """

    def __init__(self, with_rows: bool = False, changes: Mapping[str, str] | None = None) -> None:
        self.name = "ours_rows" if with_rows else "ours"
        self.stores_rows = with_rows
        self._changes = changes or {}

    def prepare(self) -> None:
        """Nothing is missing: these programs are the project's own."""

    def prepared(self) -> bool:
        """Always."""
        return True

    def version(self) -> str:
        """Its libraries' versions."""
        return machine.our_versions()

    def start(self, job: Job) -> Running:
        """Starts the supervisor, and the sink where asked for."""
        log = job.folder / "ours.log"
        inherited = {name: value for name, value in os.environ.items() if name.startswith(_INHERITED)}
        # Peers and bounds load modules on the CPU.
        fixed = {"ANALYZER_GPUS": "0"}
        environment = {**inherited, **fixed, **variables(job.kafka, job.s3, job.database), **self._changes}
        arguments = ("analyzer", "--module", job.module, "--workers", str(job.processes))
        workers = [_run(arguments, log, environment, ready_file(job))]
        if self.stores_rows:
            environment["SINK_GROUP_ID"] = f"{job.kafka.results_topic}.sink"
            workers.append(_run(("sink",), log, environment, job.folder / "sink.ready"))
        return Running(workers, log)


def ready_file(job: Job) -> Path:
    """Is there as soon as all workers of the analyzer are ready."""
    return job.folder / "analyzer.ready"


def variables(*settings: Settings) -> dict[str, str]:
    """Settings structs as the environment variables that they are read from."""
    return {
        variable(type(each), field): _text(value)
        for each in settings
        for field, value in msgspec.structs.asdict(each).items()
    }


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _run(arguments: tuple[str, ...], log: Path, environment: Mapping[str, str], ready: Path) -> Process:
    program = [sys.executable, "-m", "analysis", *arguments]
    return launch(program, log, environment={**environment, READY_FILE: str(ready)})
