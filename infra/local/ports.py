"""Whether a port is free and, if not, who has it."""

import contextlib
import socket
from collections.abc import Iterable

import psutil

from infra.local.component import LOOPBACK, Port
from schemas.errors import AnalysisError, ErrorCode


class PortTaken(AnalysisError):
    """A port that the stack needs is in use by a process that the stack did not start."""

    def __init__(self, component: str, port: Port) -> None:
        super().__init__(
            ErrorCode.STACK_PORT_TAKEN,
            f"port {port.number} for {component} is taken by {holder(port.number)}; "
            f"stop that process, or choose another port with {port.variable}",
        )


def require_free(component: str, ports: Iterable[Port]) -> None:
    """Checks that every port can be bound.

    Raises:
        PortTaken: one cannot; the message names the port, its holder and the variable that moves it.
    """
    for port in ports:
        if not is_free(port.number):
            raise PortTaken(component, port)


def is_free(number: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return False
    return True


def answers(number: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    try:
        socket.create_connection((LOOPBACK, number), timeout=1).close()
    except OSError:
        return False
    return True


def holder(number: int) -> str:
    """The process that uses a port, in words."""
    pid = _holder_pid(number)
    if pid is None:
        return "a process of another user"
    with contextlib.suppress(psutil.Error):
        return f"process {pid} ({psutil.Process(pid).name()})"
    return f"process {pid}"


def _holder_pid(number: int) -> int | None:
    try:
        users = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == number]
    except psutil.AccessDenied:
        return None
    users.sort(key=lambda connection: connection.status != psutil.CONN_LISTEN)
    return next((connection.pid for connection in users if connection.pid), None)
