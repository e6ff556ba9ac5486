"""How the analyzer starts, stops and waits out an outage, as whoever runs it sees it."""

import contextlib
import http.client
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from infra.exit_codes import ExitCode
from tests import images
from tests.service import Service, eventually, new_service, request
from tests.stack import RunningStack, free_ports


@pytest.fixture
def service(stack: RunningStack, tmp_path: Path) -> Iterator[Service]:
    with new_service(tmp_path) as made:
        yield made


def test_sigterm_finishes_what_was_begun(service: Service) -> None:
    value = service.request(images.jpeg(size=(1500, 1500)), "image")
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
        analyzer.wait_ready()
        service.publish([value.replace(b'"image"', f'"r{n}"'.encode(), 1) for n in range(200)])
        eventually(service.results)
        (worker,) = analyzer.workers()
        assert analyzer.stop() == ExitCode.OK
        assert not worker.is_running()
    before = service.results()
    assert len(before) == len({result.request_id for result in before})
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
        analyzer.wait_ready()
        eventually(lambda: len(service.results()) == 200)
        assert analyzer.stop() == ExitCode.OK
    results = service.results()
    assert len({result.request_id for result in results}) == len(results) == 200


def test_a_second_signal_ends_it_at_once(service: Service) -> None:
    with service.run("analyzer", "-m", "dummy", "-w", "1", ANALYZER_DRAIN_TIMEOUT_S="300") as analyzer:
        analyzer.wait_ready()
        (worker,) = analyzer.workers()
        worker.suspend()
        analyzer.process.send_signal(signal.SIGTERM)
        with pytest.raises(TimeoutError):
            _wait_gone(worker, 1.0)
        assert analyzer.stop(signal.SIGINT, timeout_s=10) == ExitCode.INTERRUPTED
        _wait_gone(worker, 10)


def test_workers_do_not_outlive_a_killed_supervisor(service: Service) -> None:
    with service.run("analyzer", "-m", "dummy", "-w", "2") as analyzer:
        workers = analyzer.wait_ready().workers()
        assert len(workers) == 2
        analyzer.process.kill()
        for worker in workers:
            _wait_gone(worker, 30)


STAGGERED = """
import logging, os, time
from pathlib import Path

class Staggered:
    name = "staggered"
    version = "1"
    max_batch = 4

    def load(self, device):
        try:
            os.mkdir(Path(__file__).parent / "first")
        except FileExistsError:
            time.sleep(2.0)
        logging.getLogger("staggered").warning("loaded")

    def preprocess(self, image):
        return image

    def infer(self, batch):
        return [[] for _ in batch]
"""


def test_workers_join_the_group_together(service: Service, tmp_path: Path) -> None:
    module = tmp_path / "staggered"
    module.mkdir()
    (module / "module.py").write_text(STAGGERED)
    with service.run("analyzer", "-m", str(module), "-w", "2") as analyzer:
        analyzer.wait_ready()
        told = re.findall(r'"message":"(loaded|assigned)\b', analyzer.log_text())
        assert told[:3] == ["loaded", "loaded", "assigned"]


def _probe(address: str, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except ConnectionRefusedError:
        return 0, {}
    finally:
        connection.close()


def test_probes_tell_whether_a_process_lives_and_is_ready(service: Service, tmp_path: Path) -> None:
    first = int(free_ports(tmp_path)["LOCAL_KAFKA_PORT"])
    addresses = {"analyzer": f"127.0.0.1:{first}", "sink": f"127.0.0.1:{first + 1}"}
    with (
        service.run(
            "analyzer", "-m", "dummy", "-w", "2", ANALYZER_HEALTH_ADDRESS=addresses["analyzer"]
        ) as analyzer,
        service.run("sink", SINK_HEALTH_ADDRESS=addresses["sink"]) as sink,
    ):
        eventually(lambda: _probe(addresses["analyzer"], "/readyz")[0] == 503)
        analyzer.wait_ready()
        sink.wait_ready()
        for address in addresses.values():
            assert _probe(address, "/livez")[0] == 200
            assert _probe(address, "/readyz")[0] == 200
        analyzer.workers()[0].kill()
        eventually(lambda: _probe(addresses["analyzer"], "/readyz")[0] == 503)
        assert _probe(addresses["analyzer"], "/livez")[0] == 200
        eventually(lambda: _probe(addresses["analyzer"], "/readyz")[0] == 200)
        assert analyzer.stop() == ExitCode.OK
        assert sink.stop() == ExitCode.OK


def test_a_worker_that_dies_is_replaced(service: Service) -> None:
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
        analyzer.wait_ready()
        (first,) = analyzer.workers()
        first.kill()
        eventually(lambda: [new for new in analyzer.workers() if new.pid != first.pid], 20)
        service.publish([service.request(images.jpeg(), "image")])
        eventually(service.results)
        assert "signal 9" in analyzer.log_text()


def test_a_module_that_does_not_exist_ends_it(service: Service) -> None:
    with service.run("analyzer", "-m", "dumy") as analyzer:
        assert analyzer.process.wait(60) == ExitCode.MODULE
        assert "dummy" in analyzer.log_text()


def test_a_bad_setting_names_itself(service: Service) -> None:
    with service.run("analyzer", "-m", "dummy", ANALYZER_MAX_BATCH="many") as analyzer:
        assert analyzer.process.wait(60) == ExitCode.USAGE
        assert "ANALYZER_MAX_BATCH" in analyzer.log_text()


def test_without_kafka_it_says_what_to_run(service: Service, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_ports(tmp_path)['LOCAL_KAFKA_PORT']}"
    with service.run("analyzer", "-m", "dummy", KAFKA_BOOTSTRAP_SERVERS=nobody) as analyzer:
        assert analyzer.process.wait(60) == ExitCode.UNAVAILABLE
        assert "analysis up" in analyzer.log_text()


def test_without_topics_it_says_what_to_run(service: Service) -> None:
    with service.run("analyzer", "-m", "dummy", KAFKA_IMAGES_TOPIC="never-made") as analyzer:
        assert analyzer.process.wait(60) == ExitCode.UNAVAILABLE
        assert "analysis topics create" in analyzer.log_text()


def test_an_outage_of_the_store_is_waited_out(service: Service) -> None:
    store = urlsplit(service_s3_endpoint())
    values = [service.request(images.jpeg(), f"r{number}") for number in range(20)]
    with Forwarder(store.hostname or "", store.port or 0) as proxy:
        proxy.open = False
        endpoint = f"http://127.0.0.1:{proxy.port}"
        with service.run("analyzer", "-m", "dummy", "-w", "1", S3_ENDPOINT_URL=endpoint) as analyzer:
            analyzer.wait_ready()
            service.publish(values)
            eventually(lambda: "waiting for it" in analyzer.log_text())
            assert service.results() == []
            proxy.open = True
            eventually(lambda: len(service.results()) == 20)
            assert "is back after" in analyzer.log_text()
            assert analyzer.stop() == ExitCode.OK
    assert {result.status for result in service.results()} == {"ok"}


def test_a_stop_during_an_outage_leaves_the_work_to_the_next(service: Service) -> None:
    value = service.request(images.jpeg(), "image")
    with _silent_port() as port:
        endpoint = f"http://127.0.0.1:{port}"
        with service.run("analyzer", "-m", "dummy", "-w", "1", S3_ENDPOINT_URL=endpoint) as analyzer:
            analyzer.wait_ready()
            service.publish([value])
            eventually(lambda: "waiting for it" in analyzer.log_text())
            assert analyzer.stop(timeout_s=30) == ExitCode.OK
            assert "1 requests are left" in analyzer.log_text()
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
        analyzer.wait_ready()
        eventually(service.results)
    assert [result.status for result in service.results()] == ["ok"]


def test_a_request_for_another_module_is_left_to_it(service: Service) -> None:
    value = service.request(images.jpeg(), "other")
    key = f"{service.kafka.images_topic}/other"
    mine = request("mine", key, modules=["dummy", "faces"])
    others = request("others", key, modules=["faces"])
    with service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
        analyzer.wait_ready()
        service.publish([others, mine, value], partition=0)
        eventually(lambda: len(service.results()) == 2)
        assert analyzer.stop() == ExitCode.OK
    assert [result.request_id for result in service.results()] == ["mine", "other"]


def service_s3_endpoint() -> str:
    """Where the tests' object store listens."""
    from infra.settings import S3Settings, load

    return load(S3Settings).endpoint_url


def _wait_gone(process: psutil.Process, timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except psutil.TimeoutExpired:
        raise TimeoutError from None


@contextlib.contextmanager
def _silent_port() -> Iterator[int]:
    """A port where connections are refused for as long as the block runs."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Forwarder:
    """Passes connections on to a server while `open`, and cuts them at once while not."""

    def __init__(self, host: str, port: int) -> None:
        self.open = True
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self.open:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
