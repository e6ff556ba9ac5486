"""A fault proxy before each of the servers, and the addresses that lead through them."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from infra.settings import DatabaseSettings, KafkaSettings, LocalSettings, S3Settings, load
from tests.chaos import servers
from tests.chaos.proxy import FaultProxy
from tests.stack import environment


class Proxies(NamedTuple):
    """What stands before each server, and the address that leads through it."""

    s3: FaultProxy
    s3_url: str
    database: FaultProxy
    database_url: str
    kafka: FaultProxy | None
    """None where there are several brokers, whose own addresses are taken."""
    kafka_address: str


@contextlib.contextmanager
def standing_before_the_servers() -> Iterator[Proxies]:
    """Proxies before the servers that the environment leads to, which themselves stay where they are."""
    with contextlib.ExitStack() as ends:
        s3, s3_url = _proxied(load(S3Settings).endpoint_url)
        ends.callback(s3.close)
        database, database_url = _proxied(load(DatabaseSettings).url)
        ends.callback(database.close)
        kafka, kafka_address = None, load(KafkaSettings).bootstrap_servers
        if len(servers.kafka_names()) == 1:
            kafka, kafka_address = ends.enter_context(_kafka_behind_proxy())
        yield Proxies(s3, s3_url, database, database_url, kafka, kafka_address)


def _proxied(url: str) -> tuple[FaultProxy, str]:
    parts = urlsplit(url)
    proxy = FaultProxy((parts.hostname or "", parts.port or 0))
    credentials, at, _ = parts.netloc.rpartition("@")
    netloc = f"{credentials}{at}127.0.0.1:{proxy.port}"
    return proxy, urlunsplit(parts._replace(netloc=netloc))


@contextlib.contextmanager
def _kafka_behind_proxy() -> Iterator[tuple[FaultProxy, str]]:
    """A broker tells its clients where to find it: only a listener of its own can name the proxy."""
    first = load(LocalSettings).kafka_port
    # That of a second broker, which is not there.
    port = first + 2
    proxy = FaultProxy(("127.0.0.1", port))
    own = f"PLAINTEXT://127.0.0.1:{first}"
    properties = (
        f"listeners={own},CONTROLLER://127.0.0.1:{first + 1},PROXIED://127.0.0.1:{port}\n"
        f"advertised.listeners={own},PROXIED://127.0.0.1:{proxy.port}\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n"
    )
    (name,) = servers.kafka_names()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "proxied.properties"
        file.write_text(properties)
        try:
            with environment({**os.environ, "LOCAL_KAFKA_PROPERTIES": str(file)}):
                servers.restart(name, signal.SIGTERM)
                yield proxy, f"127.0.0.1:{proxy.port}"
        finally:
            proxy.close()
            servers.restart(name, signal.SIGTERM)
