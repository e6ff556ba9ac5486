"""The old design: a Celery task an image, given by path, its answer stored in the database.

https://docs.celeryq.dev/en/stable/userguide/optimizing.html (prefetching, late acknowledgement)
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
from celery import Celery, signals  # type: ignore[import-not-found]
from psycopg2 import sql

from benchmarks.peers.answering import Detector
from benchmarks.peers.celery.tasks import BROKER_VARIABLE
from benchmarks.peers.job import given

app = Celery("analyzer", broker=os.environ[BROKER_VARIABLE])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    # Loading a module with torch takes longer than the four seconds that Celery gives a new process.
    worker_proc_alive_timeout=60,
    broker_transport_options={"confirm_publish": True},
)


class Worker:
    """What a worker process keeps from task to task: its module and its connection."""

    def __init__(self) -> None:
        job = given()
        self._detector = Detector(job)
        self._connection = psycopg2.connect(job.database.url)
        self._connection.autocommit = True
        insert = sql.SQL("INSERT INTO {} (request_id, result) VALUES (%s, %s)")
        self._insert = insert.format(sql.Identifier(job.table))

    def analyze(self, request_id: str, path: Path) -> None:
        """Analyzes a file and stores the answer."""
        answer = msgspec.json.encode(self._detector.detect(path)).decode()
        with self._connection.cursor() as cursor:
            cursor.execute(self._insert, (request_id, answer))


worker: Worker


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def begin(**_: Any) -> None:
    """Loads the module once a process."""
    global worker
    worker = Worker()


@app.task  # type: ignore[untyped-decorator]
def analyze(request_id: str, path: str) -> None:
    """One image."""
    worker.analyze(request_id, Path(path))
