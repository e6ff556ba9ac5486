"""Whether a process lives and is ready, over HTTP, for orchestrators."""

import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from infra.settings import SettingError

logger = logging.getLogger(__name__)


class Health(msgspec.Struct, frozen=True):
    """An answer to a probe."""

    ok: bool
    details: dict[str, Any] = msgspec.field(default_factory=dict)


Probe = Callable[[], Health]


class Heartbeat:
    """Tells whether a loop goes on; beaten by the loop, looked at from other threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._beaten_at_s = clock()

    def beat(self) -> None:
        """The loop goes on."""
        self._beaten_at_s = self._clock()

    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._beaten_at_s


class HealthServer:
    """Answers `GET /livez` and `/readyz` with 200 or 503 and a JSON object, in a thread of its own.

    A process lives as long as its loop goes on: an outage of Kafka, of the object store or of PostgreSQL
    must not have it restarted. It is ready once it can do its work.

    Args:
        address: `port`, on every interface, or `host:port`; empty for no server.
    """

    def __init__(self, address: str, live: Probe, ready: Probe) -> None:
        self._address = address
        self._probes: Mapping[str, Probe] = {
            "/livez": live,
            "/healthz": live,
            "/readyz": ready,
        }
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> "HealthServer":
        if self._address:
            host, _, port = self._address.rpartition(":")
            probes = self._probes

            class Handler(BaseHTTPRequestHandler):
                timeout = 5

                def do_GET(self) -> None:
                    _answer(self, probes)

                def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                    logger.debug(format, *args)

            try:
                self._server = ThreadingHTTPServer((host, int(port)), Handler)
            except (OSError, OverflowError) as error:
                reason = error.strerror if isinstance(error, OSError) else "ports end at 65535"
                raise SettingError(f"nothing can listen on {self._address}: {reason}") from None
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.server_address[1])


def _answer(handler: BaseHTTPRequestHandler, probes: Mapping[str, Probe]) -> None:
    probe = probes.get(handler.path.partition("?")[0])
    if probe is None:
        handler.send_error(404)
        return
    health = probe()
    body = msgspec.json.encode({"status": "ok" if health.ok else "failing", **health.details})
    handler.send_response(200 if health.ok else 503)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
