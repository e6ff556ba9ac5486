"""The probes that every process answers."""

import json
import urllib.error
import urllib.request

import pytest

from infra.health import Health, HealthServer, Heartbeat
from infra.settings import SettingError


def get(server: HealthServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_alive_and_not_ready() -> None:
    with HealthServer("127.0.0.1:0", lambda: Health(True), lambda: Health(False, {"workers": 1})) as server:
        status, body = get(server, "/livez?verbose")
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        assert get(server, "/healthz")[0] == 200
        status, body = get(server, "/readyz")
        assert (status, json.loads(body)) == (503, {"status": "failing", "workers": 1})
        assert get(server, "/secrets")[0] == 404


def test_a_loop_that_goes_on_is_not_silent() -> None:
    now_s = 10.0
    heartbeat = Heartbeat(lambda: now_s)
    now_s = 17.0
    assert heartbeat.silent_s() == 7
    heartbeat.beat()
    assert heartbeat.silent_s() == 0


def test_an_address_where_nothing_can_listen_is_named() -> None:
    with (
        HealthServer("127.0.0.1:0", lambda: Health(True), lambda: Health(True)) as server,
        pytest.raises(SettingError, match=rf"127.0.0.1:{server.port}: Address already in use"),
        HealthServer(f"127.0.0.1:{server.port}", lambda: Health(True), lambda: Health(True)),
    ):
        pass


def test_a_port_that_does_not_exist_is_named() -> None:
    with (
        pytest.raises(SettingError, match=r"127.0.0.1:70000: ports end at 65535"),
        HealthServer("127.0.0.1:70000", lambda: Health(True), lambda: Health(True)),
    ):
        pass
