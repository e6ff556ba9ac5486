"""A Faust agent that takes records in batches; blocking work runs in threads.

https://faust-streaming.github.io/faust/userguide/streams.html (`take`)
"""

import asyncio

import faust

from benchmarks.peers.answering import Answerer, Prepared, position
from benchmarks.peers.job import given

TAKE = 16
WITHIN_S = 0.05

job = given()
answerer = Answerer(job)
app = faust.App(
    job.group,
    broker=f"kafka://{job.kafka.bootstrap_servers}",
    datadir=str(job.folder / "faust"),
)
images = app.topic(job.kafka.images_topic, value_type=bytes, value_serializer="raw")
results = app.topic(job.kafka.results_topic, value_type=bytes, value_serializer="raw")


@app.agent(images)  # type: ignore[arg-type]
async def analyze(stream: faust.Stream[bytes]) -> None:
    """Fetches and decodes a batch side by side, then analyzes it at once."""
    async for events in stream.take_events(TAKE, within=WITHIN_S):
        prepared = await asyncio.gather(*(asyncio.to_thread(prepare, event) for event in events))
        for value in await asyncio.to_thread(answerer.answers, prepared):
            await results.send(value=value)


def prepare(event: faust.EventT[bytes]) -> Prepared:
    """Fetches and decodes one image."""
    message = event.message
    where = position(message.topic, message.partition, message.offset, message.timestamp * 1000)
    return answerer.prepare(event.value, where)


if __name__ == "__main__":
    app.main()
