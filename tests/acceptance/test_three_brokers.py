"""A cluster of three brokers: any one of them may die, and no user sees an error."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.chaos import servers
from tests.chaos.run import Plan, run
from tests.producer_support import environment
from tests.producer_support import run as run_command
from tests.service import eventually, new_service
from tests.stack import RunningStack, running_stack


@pytest.fixture(scope="module")
def three_brokers() -> Iterator[RunningStack]:
    """A stack with three brokers, and three copies of everything."""
    with running_stack(brokers=3) as running:
        yield running


@pytest.mark.timeout(300)
def test_a_user_sees_nothing_of_the_death_of_a_broker(three_brokers: RunningStack, tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(images.jpeg(colour=(255, 0, 0)))
    with (
        new_service(tmp_path) as service,
        service.run("analyzer", "-m", "dummy", "-w", "1") as analyzer,
        service.run("sink") as sink,
    ):
        analyzer.wait_ready()
        sink.wait_ready()
        env = environment(service.kafka, tmp_path / "state")
        # The first: it led most of what there is, the groups and the transactions.
        broker = servers.kafka_names()[0]
        servers.kill(broker)
        ended = run_command(env, "upload", str(photo), "--wait", "--timeout", "60")
        assert ended.returncode == 0, ended.stderr
        assert "error" not in ended.stderr.lower()
        assert [result.status for result in service.results()] == ["ok"]
        assert eventually(lambda: service.row_count() == 1, 60)
        servers.start(broker)
        assert analyzer.stop() == 0
        assert sink.stop() == 0


@pytest.mark.timeout(300)
def test_requests_lose_nothing_by_the_deaths_of_brokers(three_brokers: RunningStack) -> None:
    report = run(Plan(seed=3, weights="kill_broker", faults=3, rate=30, least_requests=600), print)
    print(report.text())
    assert report.faults == {"kill_broker": 3}
    assert report.violations == []
