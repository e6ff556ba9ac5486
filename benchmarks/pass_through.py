"""What Kafka itself takes for an image: requests in, results out, exactly once, and nothing else done."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, Message, TopicPartition

from benchmarks.errors import RunFailed
from benchmarks.usage import Servers
from benchmarks.workload import Workplace, preload, run_topics
from infra import kafka
from infra.settings import AnalyzerSettings, KafkaSettings, load

RECORDS = 4000
RESULT_BYTES = 800
"""About what a result with two detections takes."""
TRANSACTION_RECORDS = 64
"""About what a worker of a small machine answers between two transactions behind a backlog. The price of
exactly-once is in the bound: a transaction costs the broker the same, whatever it holds."""
PARTITIONS = 4
PATIENCE_S = 60.0


def kafka_ms(place: Workplace, servers: Servers) -> float:
    """CPU milliseconds an image of the broker: a request read, a result written and read."""
    spent_s = 0.0
    for count in (RECORDS // 4, RECORDS):  # the first warms the broker's code up
        with run_topics(place, PARTITIONS) as topics:
            preload(place, topics, count, PARTITIONS)
            before = servers.cpu_seconds("kafka")
            _answer(topics, count)
            with _reader(topics, topics.results_topic) as results:
                for _ in _batches(results, count, count):
                    pass
            spent_s = servers.cpu_seconds("kafka") - before
    return spent_s / RECORDS * 1000


def _answer(topics: KafkaSettings, count: int) -> None:
    """Answers every request with bytes of a result's size, in transactions such as the analyzer's."""
    timeout_ms = load(AnalyzerSettings).transaction_timeout_ms
    config = kafka.transactional_config(topics, f"{topics.images_topic}.pass-through", timeout_ms)
    producer = kafka.make_producer(config)
    producer.init_transactions(PATIENCE_S)
    with _reader(topics, topics.images_topic) as requests:
        for batch in _batches(requests, count, TRANSACTION_RECORDS):
            producer.begin_transaction()
            for message in batch:
                # Random, since so few real results compress little.
                value = os.urandom(RESULT_BYTES // 2).hex()
                producer.produce(topics.results_topic, value=value, partition=message.partition() or 0)
            producer.send_offsets_to_transaction(
                _next_offsets(batch), requests.consumer_group_metadata(), PATIENCE_S
            )
            producer.commit_transaction(PATIENCE_S)


@contextlib.contextmanager
def _reader(topics: KafkaSettings, topic: str) -> Iterator[Consumer]:
    consumer = kafka.make_consumer(kafka.consumer_config(topics, f"{topic}.pass-through"))
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        yield consumer
    finally:
        consumer.close()


def _batches(consumer: Consumer, count: int, most: int) -> Iterator[list[Message]]:
    """Batches of up to `most` records, until there were `count`."""
    seen, deadline = 0, time.monotonic() + PATIENCE_S
    while seen < count:
        batch = [message for message in consumer.consume(most, 0.2) if message.error() is None]
        seen += len(batch)
        if batch:
            yield batch
        elif time.monotonic() > deadline:
            raise RunFailed(f"only {seen} of {count} records passed through Kafka in {PATIENCE_S:.0f} s")


def _next_offsets(batch: Sequence[Message]) -> list[TopicPartition]:
    last = {message.partition() or 0: message for message in batch}
    return [
        TopicPartition(message.topic() or "", partition, (message.offset() or 0) + 1)
        for partition, message in last.items()
    ]
