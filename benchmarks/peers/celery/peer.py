"""Celery: a broker, the images as files, a table, the tasks, and then the workers."""

import subprocess
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
from psycopg2 import sql

from benchmarks.peers.base import Job, Peer, PeerFailed, Running
from benchmarks.peers.celery import rabbitmq, tasks
from benchmarks.peers.environments import Environment
from benchmarks.peers.running import Process, end, launch, tail

ENQUEUE_S = 300.0

CREATE_TABLE = """
CREATE TABLE {} (
    id bigserial PRIMARY KEY,
    request_id text NOT NULL,
    result json NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
DROP_TABLE = "DROP TABLE IF EXISTS {}"


class CeleryPeer(Peer):
    """The design that this project replaces: Celery's prefork pool on RabbitMQ, results in the database."""

    name = "celery"
    stores_rows = True

    def __init__(self) -> None:
        self._environment = Environment(self.name)

    def unavailable(self) -> str:
        return rabbitmq.missing()

    def prepare(self) -> None:
        self._environment.prepare()

    def prepared(self) -> bool:
        return self._environment.ready()

    def version(self) -> str:
        return f"celery {self._environment.version('celery')}, RabbitMQ {rabbitmq.version()}"

    def start(self, job: Job) -> Running:
        with ExitStack() as undo:
            _execute(job, CREATE_TABLE)
            undo.callback(_execute, job, DROP_TABLE)
            tasks.write(job)
            node = rabbitmq.Node(job.folder / "rabbitmq")
            undo.callback(node.stop)
            node.start()
            self._enqueue(job, node)
            log = job.folder / "celery.log"
            worker = self._work(job, node, log)
            return Running([worker], log, node.processes, undo.pop_all().close)

    def _enqueue(self, job: Job, node: rabbitmq.Node) -> None:
        log = job.folder / "enqueue.log"
        program = (str(self._environment.python), "-m", "benchmarks.peers.celery.enqueue")
        process = launch(program, log, job, {tasks.BROKER_VARIABLE: node.url})
        try:
            status = process.wait(ENQUEUE_S)
        except subprocess.TimeoutExpired:
            end([process])
            raise PeerFailed(f"the tasks were not published within {ENQUEUE_S:.0f} s") from None
        if status:
            raise PeerFailed(f"the tasks could not be published:\n{tail(log)}")

    def _work(self, job: Job, node: rabbitmq.Node, log: Path) -> Process:
        options = ("--pool", "prefork", "--concurrency", str(job.processes), "--loglevel", "WARNING")
        quiet = ("--without-gossip", "--without-mingle")
        command = ("celery", "-A", "benchmarks.peers.celery.worker", "worker", *options, *quiet)
        program = (str(self._environment.python), "-m", *command)
        return launch(program, log, job, {tasks.BROKER_VARIABLE: node.url})


def _execute(job: Job, statement: str) -> None:
    with closing(psycopg2.connect(job.database.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(sql.Identifier(job.table)))
