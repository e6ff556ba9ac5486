"""The processes under test, and what can be seen of their progress while things go wrong."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
from confluent_kafka import KafkaException, TopicPartition

from infra.kafka import consumer_config, make_consumer
from infra.settings import DatabaseSettings, load
from producers.reader import TopicReader
from schemas.codec import decode_result
from tests.chaos.history import Look, now
from tests.chaos.proxies import Proxies
from tests.chaos.workload import Workload
from tests.service import Running, Service
from tests.stack import unique

WORKERS = 2
PARTITIONS = 4
GROUP = "analyzer.chaos"
GUILTY = frozenset({"module_crashed", "module_timeout"})


class Cluster:
    """An analyzer with two workers and a sink, which can be replaced while requests keep coming."""

    def __init__(
        self,
        service: Service,
        module: Path,
        workload: Workload,
        session_timeout_s: float,
        proxies: Proxies,
    ) -> None:
        self.service = service
        self.s3, self.database, self.kafka = proxies.s3, proxies.database, proxies.kafka
        self.workload = workload
        self.session_timeout_s = session_timeout_s
        self.logs: list[Path] = []
        self.dead_coordinators = 0
        """How often a broker came back without a group coordinator and had to be started once more."""
        self.fenced_at: list[float] = []
        """When somebody else took a worker's transactional id."""
        self._kafka_address = proxies.kafka_address
        self._module = str(module)
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        self.analyzer = self._run("analyzer", "-m", self._module, "-w", str(WORKERS))
        self.sink = self._run("sink")
        self.analyzer.wait_ready()
        self.sink.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def restart_analyzer(self, number: signal.Signals) -> None:
        """Ends the analyzer's supervisor with a signal, and starts another one."""
        self.analyzer.stop(number)
        self.analyzer = self._run("analyzer", "-m", self._module, "-w", str(WORKERS))

    def restart_sink(self, number: signal.Signals) -> None:
        """Ends the sink with a signal, and starts another one."""
        self.sink.stop(number)
        self.sink = self._run("sink")

    @contextlib.contextmanager
    def another_analyzer(self) -> Iterator[Running]:
        """A second analyzer with one worker."""
        with self._start("analyzer", "-m", self._module, "-w", "1") as other:
            self.logs.append(other.log)
            yield other

    @contextlib.contextmanager
    def another_sink(self) -> Iterator[Running]:
        """A second sink."""
        with self._start("sink") as other:
            yield other

    def transactional_id(self, worker: int) -> str:
        """That of one of the analyzer's workers, as its log tells."""
        host = socket.gethostname()
        found = re.search(rf"as {re.escape(host)}-\d+-(\d+) on", self.analyzer.log_text())
        assert found, "the analyzer has not said its name yet"
        return f"analyzer.chaos.{host}-{os.getuid()}-{found[1]}.{worker}"

    def committed(self) -> dict[int, int]:
        """The analyzer group's committed offset of each partition of the images topic."""
        consumer = make_consumer(consumer_config(self.service.kafka, GROUP))
        try:
            wanted = [TopicPartition(self.service.kafka.images_topic, number) for number in range(PARTITIONS)]
            return {one.partition: one.offset for one in consumer.committed(wanted, timeout=5)}
        finally:
            consumer.close()

    def coordinator_answers(self, within_s: float) -> bool:
        """Whether the group coordinator does its work: it tells offsets and gives a new member partitions."""
        deadline = time.monotonic() + within_s
        return self._tells_offsets(deadline) and self._assigns(deadline)

    def _tells_offsets(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                self.committed()
                return True
            time.sleep(0.2)
        return False

    def _assigns(self, deadline: float) -> bool:
        # All groups of the local brokers have one coordinator: __consumer_offsets has one partition.
        consumer = make_consumer(consumer_config(self.service.kafka, unique("probe")))
        try:
            consumer.subscribe([self.service.kafka.images_topic])
            while time.monotonic() < deadline:
                consumer.poll(0.1)
                if consumer.assignment():
                    return True
            return False
        finally:
            consumer.close()

    def check_alive(self) -> None:
        """Fails where the analyzer or the sink has ended by itself."""
        for running in (self.analyzer, self.sink):
            code = running.process.poll()
            assert code is None, f"{running.log.name} ended with {code}\n{running.log_text()[-3000:]}"

    def _run(self, *arguments: str) -> Running:
        running = self._ends.enter_context(self._start(*arguments))
        self.logs.append(running.log)
        return running

    def _start(self, *arguments: str) -> contextlib.AbstractContextManager[Running]:
        return self.service.run(*arguments, KAFKA_BOOTSTRAP_SERVERS=self._kafka_address)


class Watcher:
    """Notes, in threads of its own, when each partition's results and rows last came on, in seconds UTC."""

    def __init__(self, service: Service, partitions: int) -> None:
        self.looks: list[Look] = []
        self.results_at: dict[int, float] = dict.fromkeys(range(partitions), 0.0)
        self.rows_at: dict[int, float] = dict.fromkeys(range(partitions), 0.0)
        self.guilty = 0
        """How many images were found to kill or to hang workers."""
        self._service = service
        self._reader = TopicReader(service.kafka, [service.kafka.results_topic])
        self._stopping = threading.Event()
        self._looking = threading.Lock()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._watch_results, self._watch_rows)
        ]

    def __enter__(self) -> "Watcher":
        self._reader.open("beginning")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._reader.close()

    def look(self) -> Look | None:
        """The sink's offsets as they are now; None while PostgreSQL is away."""
        with self._looking:
            return self._look()

    def _look(self) -> Look | None:
        query = "SELECT partition_id, next_offset FROM sink_offsets WHERE topic = %s"
        try:
            with (
                contextlib.closing(
                    psycopg2.connect(load(DatabaseSettings).url, connect_timeout=2)
                ) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(query, (self._service.kafka.results_topic,))
                look = Look(now(), dict(cursor.fetchall()))
        except psycopg2.Error:
            return None
        self.looks.append(look)
        return look

    def _watch_results(self) -> None:
        while not self._stopping.is_set():
            message = self._reader.poll(0.1)
            if message is not None:
                error = decode_result(message.value() or b"").error
                self.guilty += error is not None and error.code in GUILTY
                # When it was produced: what was only read late says nothing about what goes on now.
                self.results_at[int(message.partition() or 0)] = message.timestamp()[1] / 1000

    def _watch_rows(self) -> None:
        before: dict[int, int] = {}
        looked_at = time.time()
        while not self._stopping.wait(0.1):
            began_at = time.time()
            look = self.look()
            if look is None:
                continue
            for partition, offset in look.next_offsets.items():
                if offset > before.get(partition, 0):
                    # Some time since the last look; the earliest is the careful guess.
                    self.rows_at[partition] = looked_at
                before[partition] = offset
            looked_at = began_at
