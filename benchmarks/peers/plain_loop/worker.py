"""A plain consumer loop: one record at a time, its result flushed, then its offset committed.

https://docs.confluent.io/kafka-clients/python/current/overview.html (synchronous commits)
"""

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from benchmarks.peers.answering import Answerer, opened
from benchmarks.peers.job import Job, given


def run(job: Job) -> None:
    """Answers until it is terminated."""
    answerer = Answerer(job)
    servers = {"bootstrap.servers": job.kafka.bootstrap_servers}
    producer = Producer({**servers, "acks": "all"})
    consumer = Consumer(
        {**servers, "group.id": job.group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([job.kafka.images_topic])
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        producer.produce(job.kafka.results_topic, answerer.answer(*opened(message)), message.key())
        producer.flush()
        commit(consumer, message)


def commit(consumer: Consumer, message: Message) -> None:
    """Commits a record; where the group is just being divided anew, its new owner gets the record again."""
    try:
        consumer.commit(message=message, asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() not in (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION):
            raise


if __name__ == "__main__":
    run(given())
