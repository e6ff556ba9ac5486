"""How many images a second the analyzer answers: from a preloaded topic to the last committed result.

The stack must be running (`make up` or `analysis up --services-only`). The images are photographs' size
and noise, drawn from a fixed seed, as JPEG. The figures depend on the machine, which Kafka, the object
store and this program share with the analyzer; compare only what one run printed.
"""

import argparse
import datetime
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import psutil
from confluent_kafka import TopicPartition
from PIL import Image

from infra import kafka, topics
from infra.lifecycle import READY_FILE
from infra.s3 import make_client
from infra.settings import KafkaSettings, S3Settings, TopicSettings, load
from schemas.codec import encode
from schemas.messages import VERSION, ImageReference, Request

RESULTS = Path(__file__).parent / "results"
DISTINCT = 50
SIZE = (1280, 960)
PATIENCE_S = 600.0


class Figure(msgspec.Struct, frozen=True):
    """One measured number."""

    name: str
    value: float
    unit: str


def main() -> None:
    """Measures, prints, and writes `benchmarks/results/end_to_end.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="dummy")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    keys = store_images(load(S3Settings))
    runs = [measure(options.module, options.workers, options.images, keys) for _ in range(options.runs)]
    names = [figure.name for figure in runs[0]]
    units = {figure.name: figure.unit for figure in runs[0]}
    values = {name: [figure.value for run in runs for figure in run if figure.name == name] for name in names}
    figures = [Figure(name, round(median(values[name]), 3), units[name]) for name in names]
    for figure in figures:
        spread = f"{min(values[figure.name]):.2f} to {max(values[figure.name]):.2f}"
        print(f"{figure.name:<45} {figure.value:>9.2f} {figure.unit:<12} (of {options.runs} runs: {spread})")
    report = {
        "machine": machine(),
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "end_to_end.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def measure(module: str, workers: str, count: int, keys: list[str]) -> list[Figure]:
    """One run on topics of its own."""
    name = f"bench-{time.time_ns()}"
    environment = {
        "KAFKA_IMAGES_TOPIC": f"{name}.images",
        "KAFKA_RESULTS_TOPIC": f"{name}.results",
        "KAFKA_DEAD_LETTERS_TOPIC": f"{name}.dead-letters",
    }
    settings = load(KafkaSettings, {**os.environ, **environment})
    topics.create(settings, TopicSettings(partitions=4))
    preload(settings, count, keys)
    with analyzer(module, workers, environment) as process:
        started, first = wait_for_results(settings, 1)
        last, _ = wait_for_results(settings, count)
        used = cpu_seconds(process)
        memory = max(child.memory_info().rss for child in process.children()) / 2**20
    prefix = f"end_to_end.{module}"
    return [
        Figure(f"{prefix}.ours", (count - first) / (last - started), "images/s"),
        Figure(f"{prefix}.ours.cpu_per_1000_images", used / count * 1000, "s"),
        Figure(f"{prefix}.ours.worker_memory", memory, "MiB"),
    ]


def store_images(settings: S3Settings) -> list[str]:
    """Puts distinct images of one size into the uploads bucket; returns their keys."""
    random = np.random.default_rng(1)
    client = make_client(settings)
    keys = []
    for number in range(DISTINCT):
        coarse = random.integers(0, 255, (SIZE[1] // 16, SIZE[0] // 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        key = f"benchmark/{number}.jpg"
        client.put_object(Bucket=settings.uploads_bucket, Key=key, Body=buffer.getvalue())
        keys.append(key)
    return keys


def preload(settings: KafkaSettings, count: int, keys: list[str]) -> None:
    """Publishes all requests before the analyzer starts."""
    producer = kafka.make_producer(kafka.producer_config(settings))
    bucket = load(S3Settings).uploads_bucket
    for number in range(count):
        reference = ImageReference(bucket, keys[number % len(keys)])
        request = Request(version=VERSION, request_id=f"bench-{number}", image=reference)
        producer.produce(settings.images_topic, value=encode(request), partition=number % 4)
        producer.poll(0)
    if producer.flush(60):
        sys.exit("the requests could not be published")


@contextmanager
def analyzer(module: str, workers: str, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """The analyzer as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "analyzer.log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-m", "analysis", "analyzer", "-m", module, "-w", workers],
                env={**os.environ, **environment, READY_FILE: str(Path(folder) / "ready")},
                stderr=output,
            ) as process,
        ):
            try:
                yield psutil.Process(process.pid)
            except BaseException:
                print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
                raise
            finally:
                process.terminate()


def wait_for_results(settings: KafkaSettings, count: int) -> tuple[float, int]:
    """When at least `count` results were committed, and how many there were then."""
    config = kafka.consumer_config(settings, f"bench-{time.time_ns()}")
    consumer = kafka.make_consumer(config)
    consumer.assign([TopicPartition(settings.results_topic, number, 0) for number in range(4)])
    seen, deadline = 0, time.monotonic() + PATIENCE_S
    try:
        while seen < count:
            if time.monotonic() > deadline:
                sys.exit(f"only {seen} of {count} results after {PATIENCE_S:.0f} s")
            first = consumer.poll(0.5)
            messages = [first, *consumer.consume(10_000, 0)] if first is not None else []
            seen += sum(message.error() is None for message in messages)
        return time.monotonic(), seen
    finally:
        consumer.close()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and its children, so far."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def machine() -> str:
    """What the figures were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
