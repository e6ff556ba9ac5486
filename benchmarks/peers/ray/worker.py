"""Ray actors fed from a consumer: each call carries a batch, and each actor has the next one waiting.

https://docs.ray.io/en/latest/ray-core/patterns/limit-pending-tasks.html and, for the batches,
https://docs.ray.io/en/latest/ray-core/patterns/too-fine-grained-tasks.html
"""

import itertools
import os
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray  # type: ignore[import-not-found]
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.peers.answering import Answerer, opened
from benchmarks.peers.job import Job, given
from schemas.messages import RecordPosition

BATCH = 16
THREADS = 4
AHEAD = 2
"""Calls that each actor has, one at work and one waiting."""


class Analyzer:
    """One worker process with its module."""

    def __init__(self) -> None:
        self._answerer = Answerer(given())
        self._threads = ThreadPoolExecutor(THREADS)

    def answer(self, records: Sequence[tuple[bytes, RecordPosition]]) -> list[bytes]:
        """Analyzes a batch."""
        prepared = self._threads.map(lambda record: self._answerer.prepare(*record), records)
        return self._answerer.answers(list(prepared))


def run(job: Job) -> None:
    """Answers until it is terminated."""
    actor = ray.remote(num_cpus=1)(Analyzer)
    actors = itertools.cycle([actor.remote() for _ in range(job.processes)])
    servers = {"bootstrap.servers": job.kafka.bootstrap_servers}
    producer = Producer({**servers, "acks": "all"})
    consumer = Consumer(
        {**servers, "group.id": job.group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([job.kafka.images_topic])
    pending: deque[tuple[Any, list[Message]]] = deque()
    while True:
        while len(pending) < AHEAD * job.processes and (messages := consumer.consume(BATCH, 0.1)):
            pending.append((next(actors).answer.remote(list(map(opened, messages))), messages))
        if not pending:
            continue
        answer, messages = pending.popleft()
        for value, message in zip(ray.get(answer), messages, strict=True):
            producer.produce(job.kafka.results_topic, value, message.key())
        producer.flush()
        consumer.commit(offsets=following(messages))


def following(messages: Sequence[Message]) -> list[TopicPartition]:
    """The offset after the last message of each partition."""
    positions = [opened(message)[1] for message in messages]
    last = {(each.topic, each.partition): each.offset for each in positions}
    return [TopicPartition(*where, offset + 1) for where, offset in last.items()]


if __name__ == "__main__":
    job = given()
    # Ray's sockets lie in this folder, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ["HOME"] = folder  # Ray keeps its token there
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(num_cpus=job.processes, include_dashboard=False, _temp_dir=folder)
        try:
            run(job)
        finally:
            ray.shutdown()
