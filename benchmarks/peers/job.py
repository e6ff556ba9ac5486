"""One run's order, as the harness writes it and each worker process reads it."""

import os
from pathlib import Path

import msgspec

from infra.settings import DatabaseSettings, KafkaSettings, S3Settings

VARIABLE = "BENCHMARK_JOB"
"""Carries the job to worker processes: an environment is private, a command line is not."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run: `count` requests lie in the images topic already, and nobody else reads or writes here."""

    module: str
    """As `modules.loading.load_module` takes it."""
    count: int
    kafka: KafkaSettings
    """Where the requests are (`images_topic`) and where results go (`results_topic`)."""
    s3: S3Settings
    database: DatabaseSettings
    table: str
    """The table that a peer with `stores_rows` makes, fills and, when it is stopped, drops: `request_id text,
    result json, stored_at timestamptz`; the last is the moment of the insertion."""
    folder: Path
    """An empty folder for logs and whatever else the run needs."""
    processes: int = 2

    @property
    def group(self) -> str:
        """A consumer group of this run's own."""
        return f"{self.kafka.images_topic}.peer"


def encoded(job: Job) -> str:
    """The job as text."""
    return msgspec.json.encode(job, enc_hook=str).decode()


def given() -> Job:
    """The job of this worker process."""
    return msgspec.json.decode(os.environ[VARIABLE], type=Job, dec_hook=lambda kind, text: kind(text))
