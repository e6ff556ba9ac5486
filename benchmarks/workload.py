"""What a run works on: images in a bucket, a database, and topics with requests; nothing of it stays."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import msgspec
from psycopg2 import sql

from benchmarks.images import DISTINCT, jpeg
from infra import kafka, topics
from infra.migrations import migrate
from infra.postgres import connect
from infra.s3 import make_client
from infra.settings import DatabaseSettings, KafkaSettings, S3Settings, TopicSettings, load
from schemas.codec import encode
from schemas.messages import VERSION, ImageReference, Request

PUBLISH_S = 120.0
DELETE_S = 30.0


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of one command share."""

    kafka: KafkaSettings
    s3: S3Settings
    """Allows the bucket of the images, and no other."""
    database: DatabaseSettings
    """A migrated database of this command's own."""
    bucket: str
    keys: tuple[str, ...]


@contextlib.contextmanager
def workplace(distinct: int = DISTINCT) -> Iterator[Workplace]:
    """Makes a bucket with `distinct` images and a database; both are deleted at the end."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    with _images(name, distinct) as keys, _database(name) as database:
        yield Workplace(
            kafka=load(KafkaSettings),
            s3=msgspec.structs.replace(load(S3Settings), uploads_bucket=name, allowed_buckets=(name,)),
            database=database,
            bucket=name,
            keys=keys,
        )


@contextlib.contextmanager
def run_topics(place: Workplace, partitions: int) -> Iterator[KafkaSettings]:
    """Topics of one run's own; they are deleted at the end, with those that a contender made beside them."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    settings = msgspec.structs.replace(
        place.kafka,
        images_topic=f"{name}.images",
        results_topic=f"{name}.results",
        dead_letters_topic=f"{name}.dead-letters",
    )
    topics.create(settings, TopicSettings(partitions=partitions))
    try:
        yield settings
    finally:
        _delete_topics(settings, name)


def preload(place: Workplace, settings: KafkaSettings, count: int, partitions: int) -> None:
    """Publishes `count` requests, the same number to each partition, and waits until all are stored."""
    producer = kafka.make_producer(kafka.producer_config(settings))
    for number in range(count):
        while True:
            try:
                producer.produce(
                    settings.images_topic, value=request(place, number), partition=number % partitions
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(PUBLISH_S):
        raise TimeoutError(f"{count} requests could not be published in {PUBLISH_S:.0f} s")


def request(place: Workplace, number: int) -> bytes:
    """The n-th request, encoded; its id is its number."""
    image = ImageReference(place.bucket, place.keys[number % len(place.keys)])
    return encode(Request(version=VERSION, request_id=str(number), image=image))


def _delete_topics(settings: KafkaSettings, beginning: str) -> None:
    admin = kafka.make_admin(settings)
    names = [name for name in admin.list_topics(timeout=DELETE_S).topics if name.startswith(beginning)]
    for future in admin.delete_topics(names).values():
        future.result(DELETE_S)


@contextlib.contextmanager
def _images(bucket: str, count: int) -> Iterator[tuple[str, ...]]:
    client = make_client(load(S3Settings))
    client.create_bucket(Bucket=bucket)
    keys = []
    try:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for number, image in enumerate(threads.map(jpeg, range(count))):
                keys.append(f"{number:03}.jpg")
                client.put_object(Bucket=bucket, Key=keys[-1], Body=image)
        yield tuple(keys)
    finally:
        for key in keys:
            client.delete_object(Bucket=bucket, Key=key)
        client.delete_bucket(Bucket=bucket)


@contextlib.contextmanager
def _database(name: str) -> Iterator[DatabaseSettings]:
    server = load(DatabaseSettings)
    _administer(server, "CREATE DATABASE {}", name)
    try:
        settings = DatabaseSettings(url=urlunsplit(urlsplit(server.url)._replace(path=f"/{name}")))
        migrate(settings)
        yield settings
    finally:
        _administer(server, "DROP DATABASE {} WITH (FORCE)", name)


def _administer(server: DatabaseSettings, statement: str, name: str) -> None:
    with contextlib.closing(connect(server, "benchmarks")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))
