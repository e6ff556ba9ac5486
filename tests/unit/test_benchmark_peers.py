"""Every peer that this machine has answers each request as the module called directly does."""

import io
import time
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg2
import pytest
from confluent_kafka import Consumer, TopicPartition
from PIL import Image
from psycopg2 import sql

from benchmarks.peers.base import Job, Peer, Running
from benchmarks.peers.catalog import PEERS
from infra import kafka, topics
from infra.s3 import make_client
from infra.settings import TopicSettings
from modules.loading import load_module
from schemas.codec import decode_result, encode
from schemas.messages import VERSION, Detection, ImageReference, Request
from tests.images import jpeg
from tests.stack import RunningStack, unique

COUNT = 20
PARTITIONS = 4
WAIT_S = 90.0

IMAGES = {
    f"peers/{number}.jpg": jpeg(box=(10 * number + 1, 20, 50, 40 + number)) for number in range(COUNT // 2)
}

Answers = dict[str, tuple[Detection, ...]]


@pytest.fixture
def job(stack: RunningStack, tmp_path: Path) -> Job:
    """A run of twenty requests for ten images, all of them published."""
    name = unique("peers")
    settings = msgspec.structs.replace(
        stack.kafka,
        images_topic=f"{name}.images",
        results_topic=f"{name}.results",
        dead_letters_topic=f"{name}.dead",
    )
    topics.create(settings, TopicSettings(partitions=PARTITIONS))
    client, bucket = make_client(stack.s3), stack.s3.uploads_bucket
    for key, data in IMAGES.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    producer = kafka.make_producer(kafka.producer_config(settings))
    for number, key in enumerate([*IMAGES, *IMAGES]):
        request = Request(version=VERSION, request_id=f"r{number}", image=ImageReference(bucket, key))
        producer.produce(settings.images_topic, encode(request), partition=number % PARTITIONS)
    assert producer.flush(30) == 0
    return Job(
        module="dummy",
        count=COUNT,
        kafka=settings,
        s3=stack.s3,
        database=stack.database,
        table=name,
        folder=tmp_path,
    )


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_answers_as_the_module_does(peer: Peer, job: Job) -> None:
    if reason := peer.unavailable():
        pytest.skip(reason)
    if not peer.prepared():
        pytest.skip(f"{peer.name} has no environment here yet; the benchmarks make it")
    assert peer.version()
    running = peer.start(job)
    try:
        answers = rows(job, running) if peer.stores_rows else records(job, running)
        assert running.cpu_seconds() > 0
        processes = [*running.processes, *running.servers]
    finally:
        running.stop()
    assert answers == expected()
    assert not [process for process in processes if process.is_running()]


def expected() -> Answers:
    """What the module says when it is called directly."""
    module = load_module("dummy")
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in [*IMAGES.values(), *IMAGES.values()]]
    found = [module.infer([module.preprocess(image)])[0] for image in images]
    return {f"r{number}": tuple(detections) for number, detections in enumerate(found)}


def records(job: Job, running: Running) -> Answers:
    """The results on the topic, once all have come; peers may repeat themselves."""
    consumer = Consumer({"bootstrap.servers": job.kafka.bootstrap_servers, "group.id": unique("test")})
    consumer.assign([TopicPartition(job.kafka.results_topic, number, 0) for number in range(PARTITIONS)])
    deadline = time.monotonic() + WAIT_S
    answers: Answers = {}
    with closing(consumer):
        while len(answers) < COUNT:
            running.check()
            assert time.monotonic() < deadline, running.log.read_text()
            message = consumer.poll(0.5)
            if message is None:
                continue
            assert message.error() is None
            result = decode_result(message.value() or b"")
            assert answers.setdefault(result.request_id, result.detections) == result.detections
    return answers


def rows(job: Job, running: Running) -> Answers:
    """The results in the table, once all have come."""
    query = sql.SQL("SELECT request_id, result::text FROM {}").format(sql.Identifier(job.table))
    deadline = time.monotonic() + WAIT_S
    answers: Answers = {}
    with closing(psycopg2.connect(job.database.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while len(answers) < COUNT:
            running.check()
            assert time.monotonic() < deadline, running.log.read_text()
            time.sleep(0.1)
            cursor.execute(query)
            decode = msgspec.json.Decoder(tuple[Detection, ...]).decode
            answers = {request_id: decode(result) for request_id, result in cursor}
    return answers
