"""What every peer does with a request: the same S3 client, decoding and module, called by its own plumbing.

Images are fetched with boto3 and decoded in full with Pillow, as nearly all code does; one client and one
module a process. An error ends the worker: a benchmark has no bad images.
"""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import boto3
import msgspec
from confluent_kafka import KafkaException, Message
from PIL import Image, ImageOps

from benchmarks.peers.job import Job
from modules.loading import load_model, load_module
from schemas.codec import decode_request, encode
from schemas.messages import (
    AnalyzedImage,
    Detection,
    ModuleIdentity,
    RecordPosition,
    Request,
    Result,
)


class Prepared(msgspec.Struct, frozen=True):
    """An image that is ready for the module, and what its result will say."""

    request: Request
    position: RecordPosition
    image: AnalyzedImage
    item: Any


class Detector:
    """A loaded module."""

    def __init__(self, job: Job) -> None:
        self.module = load_module(job.module)
        load_model(self.module, "cpu")

    def detect(self, path: Path) -> Sequence[Detection]:
        """Analyzes an image in a file."""
        return self.module.infer([self.module.preprocess(decode(path))])[0]


class Answerer(Detector):
    """Answers requests whose images are in the object store."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._s3 = boto3.client(
            "s3",
            endpoint_url=job.s3.endpoint_url,
            region_name=job.s3.region,
            aws_access_key_id=job.s3.access_key_id,
            aws_secret_access_key=job.s3.secret_access_key,
        )

    def answer(self, record: bytes, position: RecordPosition) -> bytes:
        """One request to its result."""
        return self.answers([self.prepare(record, position)])[0]

    def prepare(self, record: bytes, position: RecordPosition) -> Prepared:
        """Fetches and decodes one image; threads may do this side by side."""
        request = decode_request(record)
        reference = request.image
        data = self._s3.get_object(Bucket=reference.bucket, Key=reference.key)["Body"].read()
        image = decode(io.BytesIO(data))
        found = AnalyzedImage(
            bucket=reference.bucket,
            key=reference.key,
            width_px=image.width,
            height_px=image.height,
            size_bytes=len(data),
        )
        return Prepared(request, position, found, self.module.preprocess(image))

    def answers(self, batch: Sequence[Prepared]) -> list[bytes]:
        """Analyzes a batch; its results in the same order."""
        found = self.module.infer([prepared.item for prepared in batch])
        return [encode(self._result(prepared, each)) for prepared, each in zip(batch, found, strict=True)]

    def _result(self, prepared: Prepared, detections: Sequence[Detection]) -> Result:
        return Result(
            request_id=prepared.request.request_id,
            status="ok",
            module=ModuleIdentity(self.module.name, self.module.version),
            image=prepared.image,
            detections=tuple(detections),
            source=prepared.position.at(0),
            analyzed_at=datetime.now(UTC),
        )


def decode(source: Path | io.BytesIO) -> Image.Image:
    """All pixels, upright, in RGB."""
    with Image.open(source) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return image.convert("RGB")


def opened(message: Message) -> tuple[bytes, RecordPosition]:
    """A request's bytes and where it lay, of a message that confluent-kafka delivered.

    Raises:
        KafkaException: it is an error, not a record.
    """
    if message.error():
        raise KafkaException(message.error())
    partition, offset = cast("int", message.partition()), cast("int", message.offset())
    where = position(str(message.topic()), partition, offset, message.timestamp()[1])
    return message.value() or b"", where


def position(topic: str, partition: int, offset: int, timestamp_ms: float) -> RecordPosition:
    """Where a request came from. Peers do not ask for the topic's id: its name stands for it."""
    return RecordPosition(topic, topic, partition, offset, datetime.fromtimestamp(timestamp_ms / 1000, UTC))
