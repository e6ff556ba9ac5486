"""The requests of a run as Celery gets them: each image a file, each task a request's id and a path."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition

from benchmarks.peers.answering import opened
from benchmarks.peers.errors import PeerFailed
from benchmarks.peers.job import Job
from infra.s3 import make_client
from schemas.codec import decode_request
from schemas.messages import Request

BROKER_VARIABLE = "BENCHMARK_BROKER_URL"
READ_S = 30.0

Task = tuple[str, str]


def write(job: Job) -> None:
    """Stores the images as files, once each, and the tasks beside them."""
    client = make_client(job.s3)
    images = job.folder / "images"
    images.mkdir()
    tasks: list[Task] = []
    for request in _requests(job):
        reference = request.image
        path = images / hashlib.sha256(reference.key.encode()).hexdigest()
        if not path.exists():
            path.write_bytes(client.get_object(Bucket=reference.bucket, Key=reference.key)["Body"].read())
        tasks.append((request.request_id, str(path)))
    _file(job).write_bytes(msgspec.json.encode(tasks))


def read(job: Job) -> list[Task]:
    """The tasks."""
    return msgspec.json.decode(_file(job).read_bytes(), type=list[Task])


def _file(job: Job) -> Path:
    return job.folder / "tasks.json"


def _requests(job: Job) -> Iterator[Request]:
    topic = job.kafka.images_topic
    consumer = Consumer(
        {
            "bootstrap.servers": job.kafka.bootstrap_servers,
            "group.id": job.group,
            "enable.auto.commit": False,
        }
    )
    try:
        partitions = consumer.list_topics(topic, READ_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        for number in range(job.count):
            message = consumer.poll(READ_S)
            if message is None:
                raise PeerFailed(f"only {number} of {job.count} requests are in {topic}")
            value, _ = opened(message)
            yield decode_request(value)
    finally:
        consumer.close()
