"""What goes wrong in a run, each until it is over."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import psycopg2

from consumers.analyzer.publishing import FENCED_WINDOW_S
from consumers.analyzer.watchdog import STACKS_S
from infra.kafka import make_producer, transactional_config
from infra.settings import DatabaseSettings, load
from tests.chaos import servers
from tests.chaos.proxy import UNAVAILABLE, FaultProxy, Trouble
from tests.chaos.workload import TIMEOUT_S
from tests.service import eventually

if TYPE_CHECKING:
    from tests.chaos.cluster import Cluster

END_TXN = b"\x00\x1a\x00"
"""How such requests begin, after their length: key 26 of Kafka's protocol, and half of the version."""
FREEZE_S = 2.0
"""How much longer than the session time-out a process is frozen."""


def kill_worker(cluster: "Cluster", choice: random.Random) -> None:
    """SIGKILL of a worker; its supervisor starts another one."""
    workers = cluster.analyzer.workers()
    with suppress(psutil.NoSuchProcess):
        if workers:
            choice.choice(workers).kill()


def freeze_worker(cluster: "Cluster", choice: random.Random) -> None:
    """SIGSTOP of a worker until the group has given it up, then SIGCONT: a zombie."""
    workers = cluster.analyzer.workers()
    if not workers:
        return
    worker = choice.choice(workers)
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
        time.sleep(cluster.session_timeout_s + FREEZE_S)
        worker.resume()


def kill_supervisor(cluster: "Cluster", _: random.Random) -> None:
    """SIGKILL of the supervisor: its workers see that and end; a new analyzer is started."""
    cluster.restart_analyzer(signal.SIGKILL)


def freeze_supervisor(cluster: "Cluster", _: random.Random) -> None:
    """SIGSTOP of the supervisor for some seconds; its workers go on meanwhile."""
    cluster.analyzer.process.send_signal(signal.SIGSTOP)
    time.sleep(cluster.session_timeout_s + FREEZE_S)
    cluster.analyzer.process.send_signal(signal.SIGCONT)


def stop_analyzer(cluster: "Cluster", _: random.Random) -> None:
    """SIGTERM of the analyzer, as a deployment does, and a new one."""
    cluster.restart_analyzer(signal.SIGTERM)


def kill_sink(cluster: "Cluster", _: random.Random) -> None:
    """SIGKILL of the sink, and a new one."""
    cluster.restart_sink(signal.SIGKILL)


def freeze_sink(cluster: "Cluster", _: random.Random) -> None:
    """SIGSTOP of the sink until another one has taken over and gone on, then SIGCONT: a zombie."""
    cluster.sink.process.send_signal(signal.SIGSTOP)
    with cluster.another_sink() as other:
        time.sleep(cluster.session_timeout_s)
        eventually(other.ready.exists, 60)
        time.sleep(FREEZE_S)
        cluster.sink.process.send_signal(signal.SIGCONT)
        time.sleep(FREEZE_S)
        other.stop()


def kill_broker(cluster: "Cluster", choice: random.Random) -> None:
    """SIGKILL of a Kafka broker, and a start some seconds later."""
    _restart_broker(cluster, signal.SIGKILL, choice)


def stop_broker(cluster: "Cluster", choice: random.Random) -> None:
    """SIGTERM of a Kafka broker, and a start some seconds later."""
    _restart_broker(cluster, signal.SIGTERM, choice)


def freeze_broker(_: "Cluster", choice: random.Random) -> None:
    """SIGSTOP of a Kafka broker for some seconds: connections stay, and nobody answers."""
    broker = servers.pid(_broker(choice))
    os.kill(broker, signal.SIGSTOP)
    time.sleep(choice.uniform(2, 6))
    os.kill(broker, signal.SIGCONT)


def kafka_is_silent(cluster: "Cluster", _: random.Random) -> None:
    """Connections to Kafka stay, and nothing passes, for longer than a session lasts."""
    with _kafka(cluster).trouble(Trouble(silent=True)):
        time.sleep(cluster.session_timeout_s + FREEZE_S)


def kafka_is_slow(cluster: "Cluster", _: random.Random) -> None:
    """Every answer of Kafka comes a third of a second late."""
    with _kafka(cluster).trouble(Trouble(latency_s=0.3)):
        time.sleep(5)


def kafka_breaks_off(cluster: "Cluster", _: random.Random) -> None:
    """Kafka's answers end in the middle, and its connections with them."""
    with _kafka(cluster).trouble(Trouble(cut_after_bytes=5000)):
        time.sleep(5)


def cut_at_end_of_transaction(cluster: "Cluster", _: random.Random) -> None:
    """Kafka hears that a transaction is to be committed, and the worker never hears what became of it."""
    with _kafka(cluster).trouble(Trouble(cut_at=END_TXN)):
        time.sleep(5)


def kill_postgres(_: "Cluster", choice: random.Random) -> None:
    """SIGKILL of PostgreSQL, and a start some seconds later."""
    servers.restart("postgres", signal.SIGKILL, choice.uniform(0, 3))


def cut_database_sessions(_: "Cluster", __: random.Random) -> None:
    """Ends every session of PostgreSQL from within, some of them in the middle of a COMMIT."""
    connection = psycopg2.connect(load(DatabaseSettings).url)
    try:
        with connection.cursor() as cursor:
            for _attempt in range(10):
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'analysis sink' AND pid <> pg_backend_pid()"
                )
                time.sleep(0.1)
    finally:
        connection.close()


def kill_store(_: "Cluster", choice: random.Random) -> None:
    """SIGKILL of the object store, and a start some seconds later."""
    servers.restart("s3", signal.SIGKILL, choice.uniform(0, 3))


def fill_disk(_: "Cluster", choice: random.Random) -> None:
    """No byte is left on PostgreSQL's disk. A single broker of Kafka loses what it had half written then."""
    with servers.full_disk("postgres"):
        time.sleep(choice.uniform(3, 8))


def store_refuses(cluster: "Cluster", _: random.Random) -> None:
    """The object store answers 503."""
    with cluster.s3.trouble(Trouble(instead=UNAVAILABLE)):
        time.sleep(5)


def store_breaks_off(cluster: "Cluster", choice: random.Random) -> None:
    """The object store's answers end in the middle."""
    with cluster.s3.trouble(Trouble(cut_after_bytes=choice.randrange(100, 2000))):
        time.sleep(5)


def store_spoils(cluster: "Cluster", _: random.Random) -> None:
    """The object store's answers arrive with other bytes."""
    with cluster.s3.trouble(Trouble(garbled=True)):
        time.sleep(5)


def store_trickles(cluster: "Cluster", _: random.Random) -> None:
    """The object store sends a byte a second."""
    with cluster.s3.trouble(Trouble(bytes_per_s=1)):
        time.sleep(10)


def store_is_silent(cluster: "Cluster", _: random.Random) -> None:
    """The object store's connections stay, and nothing comes."""
    with cluster.s3.trouble(Trouble(silent=True)):
        time.sleep(10)


def database_is_silent(cluster: "Cluster", _: random.Random) -> None:
    """PostgreSQL's connections stay, and nothing comes."""
    with cluster.database.trouble(Trouble(silent=True)):
        time.sleep(8)


def database_is_slow(cluster: "Cluster", _: random.Random) -> None:
    """Every answer of PostgreSQL comes half a second late."""
    with cluster.database.trouble(Trouble(latency_s=0.5)):
        time.sleep(5)


def cut_at_commit(cluster: "Cluster", _: random.Random) -> None:
    """PostgreSQL hears COMMIT, and the sink never hears what became of it."""
    with cluster.database.trouble(Trouble(cut_at=b"COMMIT")):
        time.sleep(5)


def rebalance_storm(cluster: "Cluster", _: random.Random) -> None:
    """Another analyzer joins the group and leaves it again, three times."""
    for _time in range(3):
        with cluster.another_analyzer() as other:
            eventually(other.ready.exists, 60)
            other.stop()


def duplicate_transactional_id(cluster: "Cluster", _: random.Random) -> None:
    """Somebody else takes a worker's transactional id for a moment; who loses it too often ends."""
    if any(at > time.monotonic() - FENCED_WINDOW_S - 10 for at in cluster.fenced_at):
        return
    cluster.fenced_at.append(time.monotonic())
    config = transactional_config(cluster.service.kafka, cluster.transactional_id(0), 30_000)
    make_producer(config).init_transactions(30)


def crashing_image(cluster: "Cluster", _: random.Random) -> None:
    """An image that crashes the process that infers it."""
    cluster.workload.add_poison("crashes")


def hanging_image(cluster: "Cluster", _: random.Random) -> None:
    """An image with which a call into the module never returns."""
    cluster.workload.add_poison("hangs")


Fault = Callable[["Cluster", random.Random], None]

KILLS: Mapping[Fault, int] = {
    kill_worker: 10,
    kill_supervisor: 2,
    kill_sink: 4,
    kill_postgres: 2,
    kill_store: 2,
}
"""A short run: twenty kills. Not of a single broker, whose coordinator does not always come back."""

ALL: Mapping[Fault, int] = {
    kill_worker: 6,
    freeze_worker: 2,
    kill_supervisor: 2,
    freeze_supervisor: 1,
    stop_analyzer: 1,
    kill_sink: 3,
    freeze_sink: 1,
    kill_broker: 2,
    stop_broker: 1,
    freeze_broker: 2,
    kafka_is_silent: 1,
    kafka_is_slow: 1,
    kafka_breaks_off: 1,
    cut_at_end_of_transaction: 2,
    fill_disk: 1,
    kill_postgres: 2,
    cut_database_sessions: 2,
    kill_store: 2,
    store_refuses: 1,
    store_breaks_off: 1,
    store_spoils: 1,
    store_trickles: 1,
    store_is_silent: 1,
    database_is_silent: 1,
    database_is_slow: 1,
    cut_at_commit: 2,
    rebalance_storm: 1,
    duplicate_transactional_id: 1,
    crashing_image: 2,
    hanging_image: 1,
}
"""A long run draws from these, each as often as its weight says."""

BROKERS: Mapping[Fault, int] = {kill_broker: 3, freeze_broker: 1, stop_broker: 1}
"""For a cluster of several."""

COORDINATOR_S = 15.0
MAX_DEAD_COORDINATORS = 10
BACK_S = 5.0
"""Target for the object store, PostgreSQL and the sink."""
BROKER_BACK_S = 10.0

OF_KAFKAS_PROXY = frozenset({kafka_is_silent, kafka_is_slow, kafka_breaks_off, cut_at_end_of_transaction})
"""Faults that want a single broker with a proxy before it."""
_OF_A_BROKER = frozenset({kill_broker, stop_broker, freeze_broker, *OF_KAFKAS_PROXY})
_OF_A_WORKER = frozenset(
    {kill_worker, freeze_worker, kill_supervisor, freeze_supervisor, stop_analyzer, rebalance_storm}
)

WEIGHTS = {"kills": KILLS, "all": ALL, "brokers": BROKERS}


def weights(text: str) -> Mapping[Fault, int]:
    """How often each fault is drawn.

    Args:
        text: one of `WEIGHTS`, or names of faults, separated by commas.

    Raises:
        ValueError: there is no such fault.
    """
    if text in WEIGHTS:
        return WEIGHTS[text]
    known = {fault.__name__: fault for fault in ALL}
    unknown = [name for name in text.split(",") if name not in known]
    if unknown:
        raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join([*WEIGHTS, *known])}")
    return {known[name]: 1 for name in text.split(",")}


OF_AN_IMAGE = frozenset({crashing_image, hanging_image})

OF_THE_SINK = frozenset(
    {
        kill_sink,
        freeze_sink,
        kill_postgres,
        fill_disk,
        cut_database_sessions,
        database_is_silent,
        database_is_slow,
        cut_at_commit,
    }
)
"""Faults after which rows, and not results, show that work goes on."""


def target_s(fault: Fault, protocol: str, session_timeout_s: float) -> float:
    """How soon after a fault each partition is to go on."""
    if fault in _OF_A_BROKER:
        return BROKER_BACK_S
    worker_s = session_timeout_s + 3 if protocol == "classic" else BACK_S
    if fault is crashing_image:
        return 2 * worker_s
    if fault is hanging_image:
        return 2 * (worker_s + TIMEOUT_S + STACKS_S)
    return worker_s if fault in _OF_A_WORKER else BACK_S


def _broker(choice: random.Random) -> str:
    return choice.choice(servers.kafka_names())


def _kafka(cluster: "Cluster") -> FaultProxy:
    assert cluster.kafka is not None
    return cluster.kafka


def _restart_broker(cluster: "Cluster", number: signal.Signals, choice: random.Random) -> None:
    name = _broker(choice)
    servers.restart(name, number, choice.uniform(0, 3))
    # A single broker of Kafka 4.4.0 may come back with a group coordinator that is "out of sync with the
    # underlying log", and refuses everybody until it is started once more, as a probe would have it.
    while not cluster.coordinator_answers(COORDINATOR_S):
        cluster.dead_coordinators += 1
        assert cluster.dead_coordinators < MAX_DEAD_COORDINATORS, "Kafka's group coordinator never comes back"
        servers.restart(name, signal.SIGTERM)
