"""What the harness asks of a peer: to be made ready, started on one job, watched, and stopped."""

from abc import ABC, abstractmethod

from benchmarks.peers.errors import PeerFailed
from benchmarks.peers.job import Job
from benchmarks.peers.running import Running

__all__ = ["Job", "Peer", "PeerFailed", "Running"]


class Peer(ABC):
    """One alternative to this project, as a user of it would set it up."""

    name: str
    stores_rows: bool = False
    """Its results are rows of `Job.table`; otherwise they are records (`schemas.messages.Result`) of the
    results topic."""

    def unavailable(self) -> str:
        """Why it cannot run on this machine, as a sentence for the table; empty if it can."""
        return ""

    @abstractmethod
    def prepare(self) -> None:
        """Installs what it needs, in an environment of its own; quick where that was done before.

        Raises:
            PeerFailed: an installation failed.
        """

    @abstractmethod
    def prepared(self) -> bool:
        """Whether `prepare` would have nothing to do."""

    @abstractmethod
    def version(self) -> str:
        """The versions that matter, such as `faust-streaming 0.11.3`; after `prepare`."""

    @abstractmethod
    def start(self, job: Job) -> Running:
        """Starts the run's processes and returns at once, or when its servers hold the requests.

        Raises:
            PeerFailed: a server did not start.
        """
