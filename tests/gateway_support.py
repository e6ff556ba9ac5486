"""For tests of the gateway: one that runs, and a service behind it."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.service import Running, Service, eventually, new_service


@contextlib.contextmanager
def whole_service(folder: Path) -> Iterator[Service]:
    """Topics of a test's own, with an analyzer and a sink at work on them."""
    with (
        new_service(folder) as service,
        service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer,
        service.run("sink") as sink,
    ):
        analyzer.wait_ready()
        sink.wait_ready()
        yield service


def free_port() -> int:
    """One on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def gateway(service: Service, **environment: str) -> Iterator[tuple[httpx.Client, Running]]:
    """A running gateway, and a client of it."""
    port = free_port()
    with (
        service.run("gateway", GATEWAY_ADDRESS=f"127.0.0.1:{port}", **environment) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        running.wait_ready()
        eventually(lambda: client.get("/readyz").status_code == 200)
        yield client, running
