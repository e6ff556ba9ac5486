"""Nothing is lost and nothing is doubled when a worker is killed in the middle of its work."""

import os
import re
import socket
from pathlib import Path

import pytest

from infra.kafka import make_producer, transactional_config
from schemas.messages import Result
from tests import images
from tests.service import Running, Service, eventually, new_service, request
from tests.stack import RunningStack

REQUESTS = 1000
GATED = """
import time
from pathlib import Path
from modules.dummy import module as dummy

class Gated(dummy.Dummy):
    name = "gated"
    answered = 0

    def infer(self, batch):
        while self.answered >= 100 and not Path(__file__).with_name("open").exists():
            time.sleep(0.01)
        self.answered += len(batch)
        return super().infer(batch)
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_killed_half_way_costs_nothing(stack: RunningStack, tmp_path: Path, protocol: str) -> None:
    environment = {"KAFKA_GROUP_PROTOCOL": protocol, "KAFKA_SESSION_TIMEOUT_MS": "6000"}
    module = tmp_path / "gated"
    module.mkdir()
    (module / "module.py").write_text(GATED)
    with new_service(tmp_path, environment) as service:
        with service.run("analyzer", "-m", str(module), "-w", "2") as analyzer, service.run("sink") as sink:
            analyzer.wait_ready()
            sink.wait_ready()
            service.publish(_requests(service))
            eventually(lambda: len(service.results()) >= 100, 60)
            analyzer.workers()[0].kill()
            assert len(service.results()) < REQUESTS
            (module / "open").touch()
            eventually(lambda: service.row_count() >= REQUESTS, 120)
            assert analyzer.stop() == 0
            assert sink.stop() == 0
        results = service.results()
        assert len(results) == REQUESTS
        assert {result.request_id for result in results} == {f"r{number}" for number in range(REQUESTS)}
        assert {result.status for result in results} == {"ok"}
        _assert_order(results)
        assert service.row_count() == REQUESTS
        assert service.dead_letters() == []


@pytest.mark.timeout(240)
def test_a_transaction_in_doubt_is_settled_by_asking_the_broker(stack: RunningStack, tmp_path: Path) -> None:
    with new_service(tmp_path) as service, service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer:
        analyzer.wait_ready()
        transactional_id = f"analyzer.dummy.{socket.gethostname()}-{os.getuid()}-{_slot(analyzer)}.0"
        requests = _requests(service)
        service.publish(requests[: REQUESTS // 2])
        eventually(lambda: len(service.results()) > 100, 60)
        # Once only: who loses its id again and again ends, since another one lives by it.
        make_producer(transactional_config(service.kafka, transactional_id, 30_000)).init_transactions(30)
        # However fast the first half was answered, these take a transaction that fails.
        service.publish(requests[REQUESTS // 2 :])
        eventually(lambda: len(service.results()) >= REQUESTS, 120)
        assert "a transaction failed" in analyzer.log_text()
        assert analyzer.stop() == 0
        results = service.results()
        assert len(results) == len({result.request_id for result in results}) == REQUESTS
        _assert_order(results)


def _slot(analyzer: Running) -> int:
    """The number that tells this supervisor from others on the machine, as its log says."""
    found = re.search(rf"as {re.escape(socket.gethostname())}-\d+-(\d+) on", analyzer.log_text())
    assert found
    return int(found.group(1))


def _requests(service: Service) -> list[bytes]:
    service.request(images.jpeg(size=(1024, 768)), "image")
    key = f"{service.kafka.images_topic}/image"
    return [request(f"r{number}", key) for number in range(REQUESTS)]


def _assert_order(results: list[Result]) -> None:
    """Each input partition's answers stand in the input's order on the results topic."""
    for partition in range(4):
        offsets = [result.source.offset for result in results if result.source.partition == partition]
        assert offsets == sorted(offsets)
        assert len(offsets) == len(set(offsets)) == REQUESTS // 4
