"""A RabbitMQ node of a run's own: loopback only, ports and folders of its own, no service of the system."""

import shutil
import socket
import time
from pathlib import Path

from benchmarks.peers.errors import PeerFailed
from benchmarks.peers.running import Process, end, launch, tail
from infra.local.component import LOOPBACK
from infra.local.ports import answers

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The program itself: the one in the path insists on the system's account and folders."""

START_S = 60.0


def missing() -> str:
    """What this machine lacks, as a sentence; empty if nothing."""
    if SERVER.exists() and shutil.which("epmd"):
        return ""
    return "RabbitMQ is not installed (apt-get install rabbitmq-server)"


def version() -> str:
    """The installed version; it stands in the name of the library's folder."""
    folders = SERVER.parents[1].glob("lib/rabbitmq_server-*")
    return max((folder.name.partition("-")[2] for folder in folders), default="of unknown version")


class Node:
    """One broker; its data lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "rabbitmq.log"
        self.processes: list[Process] = []
        self._port, self._epmd_port, self._distribution_port = free_ports(3)

    @property
    def url(self) -> str:
        """Where Celery connects to."""
        return f"amqp://guest:guest@{LOOPBACK}:{self._port}//"

    def start(self) -> None:
        """Starts it and waits until it takes connections.

        Raises:
            PeerFailed: it ended, or took longer than START_S; it is stopped then.
        """
        self._folder.mkdir()
        epmd = ("epmd", "-port", str(self._epmd_port), "-address", LOOPBACK)
        self.processes.append(launch(epmd, self._log))
        self.processes.insert(0, launch((str(SERVER),), self._log, environment=self._environment()))
        deadline = time.monotonic() + START_S
        while not answers(self._port):
            if time.monotonic() > deadline or self.processes[0].poll() is not None:
                self.stop()
                raise PeerFailed(f"RabbitMQ did not start:\n{tail(self._log)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it."""
        end(self.processes)

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "HOME": folder,  # for Erlang's cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"benchmark-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none.conf",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/none.plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
