"""Peers that read the images topic themselves: the same worker program once or twice."""

from benchmarks.peers.base import Job, Peer, Running
from benchmarks.peers.environments import Environment, ProjectEnvironment
from benchmarks.peers.running import launch


class KafkaPeer(Peer):
    """A peer that is nothing but its worker program, `benchmarks.peers.<name>.worker`."""

    def __init__(
        self,
        name: str,
        packages: tuple[str, ...],
        *,
        own_environment: bool = False,
        arguments: tuple[str, ...] = (),
        supervises: bool = False,
    ) -> None:
        """A peer.

        Args:
            packages: those whose versions stand in the results.
            arguments: of the worker program.
            supervises: one program starts `Job.processes` workers by itself.
        """
        self.name = name
        self._packages = packages
        self._environment = Environment(name) if own_environment else ProjectEnvironment()
        self._arguments = arguments
        self._supervises = supervises

    def prepare(self) -> None:
        self._environment.prepare()

    def prepared(self) -> bool:
        return self._environment.ready()

    def version(self) -> str:
        return ", ".join(f"{package} {self._environment.version(package)}" for package in self._packages)

    def start(self, job: Job) -> Running:
        log = job.folder / f"{self.name}.log"
        python = str(self._environment.python)
        program = (python, "-m", f"benchmarks.peers.{self.name}.worker", *self._arguments)
        count = 1 if self._supervises else job.processes
        return Running([launch(program, log, job) for _ in range(count)], log)
