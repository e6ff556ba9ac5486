"""The proxy between clients and real servers does what it says."""

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.chaos.proxy import UNAVAILABLE, FaultProxy, Trouble

BODY = b"x" * 5000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class's name


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = FaultProxy(("127.0.0.1", server.server_address[1]))
    yield made
    made.close()
    server.shutdown()
    server.server_close()


def get(proxy: FaultProxy, timeout_s: float = 5.0, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_trouble_everything_passes(proxy: FaultProxy) -> None:
    assert get(proxy) == (200, BODY)


def test_an_answer_of_its_own_keeps_the_server_out(proxy: FaultProxy) -> None:
    before = Handler.asked
    with proxy.trouble(Trouble(instead=UNAVAILABLE)):
        assert get(proxy)[0] == 503
    assert Handler.asked == before
    assert get(proxy) == (200, BODY)


def test_half_an_answer(proxy: FaultProxy) -> None:
    with proxy.trouble(Trouble(cut_after_bytes=1000)), pytest.raises(http.client.IncompleteRead) as caught:
        get(proxy)
    assert 0 < len(caught.value.partial) < 1000


def test_other_bytes_than_the_servers(proxy: FaultProxy) -> None:
    with proxy.trouble(Trouble(garbled=True)):
        status, body = get(proxy)
    assert (status, len(body)) == (200, len(BODY))
    assert body != BODY


@pytest.mark.parametrize("trouble", [Trouble(silent=True), Trouble(bytes_per_s=1)])
def test_what_does_not_come_in_time(proxy: FaultProxy, trouble: Trouble) -> None:
    with proxy.trouble(trouble), pytest.raises(TimeoutError):
        get(proxy, timeout_s=0.5)
    assert get(proxy) == (200, BODY)


def test_a_request_arrives_and_its_answer_is_cut_off(proxy: FaultProxy) -> None:
    before = Handler.asked
    with (
        proxy.trouble(Trouble(cut_at=b"/commit")),
        pytest.raises((http.client.RemoteDisconnected, ConnectionError)),
    ):
        get(proxy, path="/commit")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5):
        assert get(proxy) == (200, BODY)
    assert Handler.asked == before + 2
