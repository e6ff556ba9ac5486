"""What the local stack asks of each thing it runs."""

import os
import signal
from abc import ABC, abstractmethod

import msgspec

from infra.local.process import Command

LOOPBACK = "127.0.0.1"


class Port(msgspec.Struct, frozen=True):
    """A port on 127.0.0.1, and the environment variable that moves it."""

    number: int
    variable: str


class Component(ABC):
    """One process of the stack; the stack calls these methods in the order they stand here.

    Whatever `prepare` or `command` raise stops the start and reaches the user.
    """

    stop_steps: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    """Signals to send, each with the seconds to wait after it; SIGKILL follows by itself."""

    start_timeout_s: float = 60.0
    """How long it may take from its start until it is ready."""

    def __init__(self, name: str, address: str = "", ports: tuple[Port, ...] = ()) -> None:
        self.name = name
        self.address = address
        self.ports = ports

    def fetch(self) -> None:  # noqa: B027 - most components have nothing to do here
        """Downloads what is missing, showing progress; called before anything starts, one at a time."""

    def clean(self) -> None:  # noqa: B027 - most components have nothing to do here
        """Removes what a killed process left; called only while this component's process does not run."""

    @abstractmethod
    def prepare(self) -> None:
        """Writes configuration, and makes the data folder where there is none yet."""

    @abstractmethod
    def command(self) -> Command:
        """What to run."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether a real request succeeds now; called again and again, so it must not take long."""

    def erase(self) -> None:  # noqa: B027 - as above
        """Deletes data that lies outside the stack's folder."""


def minimal_environment() -> dict[str, str]:
    """What a server needs of ours: where programs are. Times in logs are UTC."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC"}
