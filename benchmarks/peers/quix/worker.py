"""A Quix Streams pipeline: one function applied to each record.

https://quix.io/docs/quix-streams/processing.html
"""

import os
from typing import Any

from quixstreams import Application, message_context  # type: ignore[import-not-found]

from benchmarks.peers.answering import Answerer, position
from benchmarks.peers.job import Job, given


def run(job: Job) -> None:
    """Answers until it is terminated."""
    answerer = Answerer(job)

    def analyze(value: bytes, _key: Any, timestamp_ms: int, _headers: Any) -> bytes:
        context = message_context()
        where = position(context.topic, context.partition, context.offset, timestamp_ms)
        return answerer.answer(value, where)

    app = Application(
        broker_address=job.kafka.bootstrap_servers,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        state_dir=job.folder / f"quix-{os.getpid()}",  # the workers would make a common one both at once
    )
    images = app.topic(job.kafka.images_topic, value_deserializer="bytes")
    results = app.topic(job.kafka.results_topic, value_serializer="bytes")
    frame = app.dataframe(images)
    frame.apply(analyze, metadata=True).to_topic(results)
    app.run()


if __name__ == "__main__":
    run(given())
