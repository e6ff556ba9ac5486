"""`analysis gateway`."""

import contextlib
import ipaddress
import threading
from typing import TYPE_CHECKING

import typer

from infra import logs
from infra.exit_codes import ExitCode
from infra.lifecycle import StopSignals, announce_ready
from infra.settings import (
    AnalyzerSettings,
    DatabaseSettings,
    GatewaySettings,
    KafkaSettings,
    S3Settings,
    SettingError,
    load,
)

if TYPE_CHECKING:
    import uvicorn

    from gateway.feed import Feed

DRAIN_S = 10
LOOK_S = 0.05


def gateway() -> None:
    """Run the gateway: REST, the old server's API, and the page.

    Stateless: start as many as you like. Stops on SIGTERM or Ctrl-C after answering what it was asked.
    """
    import uvicorn

    from gateway.app import make_app
    from gateway.services import Services

    logs.configure()
    settings = load(GatewaySettings)
    host, port = _address(settings)
    services = Services.make(
        settings, load(KafkaSettings), load(S3Settings), load(DatabaseSettings), load(AnalyzerSettings)
    )
    config = uvicorn.Config(
        make_app(services),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    # Its own handlers would end the process by the signal, after the shutdown.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
    with StopSignals() as signals:
        threading.Thread(
            target=_watch, args=(server, services.feed, signals.stopping), name="watching", daemon=True
        ).start()
        server.run()
    if not server.started:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _watch(server: "uvicorn.Server", feed: "Feed", stopping: threading.Event) -> None:
    while not server.started:
        if stopping.wait(LOOK_S):
            break
    else:
        announce_ready()
    stopping.wait()
    server.should_exit = True
    # Streams never end by themselves.
    feed.dismiss()


def _address(settings: GatewaySettings) -> tuple[str, int]:
    host, _, port = settings.address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 - asked for by leaving it out
    if not settings.api_keys and not settings.allow_anonymous and not _is_loopback(host):
        raise SettingError(
            f"GATEWAY_ADDRESS: {settings.address} is open to others; set GATEWAY_API_KEYS, or "
            "GATEWAY_ALLOW_ANONYMOUS=true if everybody may use it"
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
