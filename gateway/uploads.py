"""Images on their way in: what a request brings, is checked, stored, and asked for."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID, uuid5

import anyio.to_thread
import msgspec
import uuid_utils

from gateway.feed import Expected, Feed
from gateway.problems import Refused
from infra.images.decoding import open_image
from infra.images.errors import ImageError
from infra.kafka import KafkaUnavailable
from producers.client import AnalysisClient, Submission
from producers.errors import RequestNotPublished
from producers.sources import read_reference
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, RecordPosition
from schemas.references import check_reference

NAMES = UUID("6f6f2d4e-5d0a-4f0e-9d1c-1f6e6f0f7a11")
"""Namespace of the ids that are made from an Idempotency-Key."""
THUMB_PX = 64
MAX_NAME_CHARS = 255
PUBLISH_S = 10.0
"""How long Kafka may take to acknowledge; beyond it the client is told to come back."""


class Upload(msgspec.Struct, frozen=True):
    """One image that somebody wants to be analyzed: a file's name and content, or a reference."""

    name: str
    source: bytes | ImageReference


class Accepted(msgspec.Struct, frozen=True):
    """A request that Kafka has."""

    name: str
    request_id: str
    image: ImageReference


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with the images of one HTTP request."""

    modules: tuple[str, ...] = ()
    attributes: Mapping[str, str] = {}
    wait_s: float = 0.0


class Desk:
    """Takes images in: all of a request's are stored before the first is asked for."""

    def __init__(
        self,
        client: AnalysisClient,
        feed: Feed,
        allowed_buckets: Sequence[str],
        threads: int,
        decoding: anyio.CapacityLimiter,
        max_pixels: int,
    ) -> None:
        self._client = client
        self._feed = feed
        self._allowed_buckets = allowed_buckets
        self._threads = anyio.CapacityLimiter(threads)
        self._decoding = decoding
        self._max_pixels = max_pixels

    async def take(self, uploads: Sequence[Upload], wish: Wish, name: str | None = None) -> "Taken":
        """Checks, stores and publishes, and waits for answers where that is wished.

        Args:
            name: what the requests' ids are made from, so that the same name asks for the same; new ids
                where there is none.

        Raises:
            ImageError: a file is no image that the service reads.
            DecodeError: a reference or attribute breaks its rule.
            S3Unavailable: nothing is accepted; the same request may be sent again.
            KafkaUnavailable, RequestNotPublished: some may be; under the same name it may be sent again.
        """
        if not self._feed.connected:
            raise KafkaUnavailable(self._client.kafka)
        names = [_request_id(name, number) for number in range(len(uploads))]
        for upload in uploads:
            if isinstance(upload.source, bytes):
                check = partial(check_image, upload.name, upload.source, self._max_pixels)
                await anyio.to_thread.run_sync(check, limiter=self._decoding)
            else:
                check_reference(upload.source, self._allowed_buckets)
        stored = await asyncio.gather(
            *(self._in_thread(self._client.store, upload.source) for upload in uploads)
        )
        with self._feed.expecting(names, wish.modules) as expected:
            submissions = await self._in_thread(self._publish, names, uploads, stored, wish)
            await _acknowledged(submissions)
            accepted = [
                Accepted(upload.name, request_id, image)
                for upload, request_id, image in zip(uploads, names, stored, strict=True)
            ]
            complete = bool(wish.wait_s) and await expected.wait(wish.wait_s)
        return Taken(accepted, expected, complete)

    def _publish(
        self, names: Sequence[str], uploads: Sequence[Upload], images: Sequence[ImageReference], wish: Wish
    ) -> list[Submission]:
        return [
            self._client.submit(
                image,
                modules=wish.modules or None,
                attributes={**_file_name(upload), **wish.attributes},
                request_id=name,
            )
            for name, upload, image in zip(names, uploads, images, strict=True)
        ]

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._threads)


class Taken(msgspec.Struct, frozen=True):
    """What became of an HTTP request with images."""

    accepted: list[Accepted]
    expected: Expected
    complete: bool
    """Whether all of it was answered in time."""


def check_image(name: str, content: bytes, max_pixels: int) -> None:
    """Makes sure that a file is an image that the analyzer will read, by decoding it.

    Raises:
        ImageError: it is not; the message names the file.
    """
    try:
        if not content:
            raise ImageError(ErrorCode.OBJECT_EMPTY, "the file holds zero bytes")
        opened = open_image(content, max_pixels)
        # A small scale is enough to see whether the data is whole.
        opened.reduce(THUMB_PX)
        opened.pixels()
    except ImageError as error:
        raise ImageError(error.code, f"{name}: {error.message}") from None


def read_json(body: bytes) -> tuple[list[Upload], Wish]:
    """Reads a request for images that are in the object store already.

    Raises:
        Refused: it is not JSON, or not of the documented shape.
        DecodeError: a reference breaks its rule.
    """
    try:
        asked = msgspec.json.decode(body, type=JsonRequest)
    except msgspec.ValidationError as error:
        raise Refused(ErrorCode.MESSAGE_INVALID, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(ErrorCode.MESSAGE_NOT_JSON, str(error)) from None
    uploads = []
    for image in asked.images:
        reference = image if isinstance(image, ImageReference) else read_reference(image)
        if reference is None:
            raise Refused(ErrorCode.MESSAGE_INVALID, f"{image!r} is not of the form s3://bucket/key")
        uploads.append(Upload(f"s3://{reference.bucket}/{reference.key}", reference))
    return uploads, Wish(modules=asked.modules, attributes=asked.attributes)


class JsonRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON body of `POST /api/v1/images`."""

    images: list[ImageReference | str]
    modules: tuple[str, ...] = ()
    attributes: dict[str, str] = {}


def _file_name(upload: Upload) -> dict[str, str]:
    """The attribute that `analysis upload` gives a file's request, too: people know it by its name."""
    if not isinstance(upload.source, bytes):
        return {}
    return {"file": PurePosixPath(upload.name.replace("\\", "/")).name[:MAX_NAME_CHARS]}


def _request_id(name: str | None, number: int) -> str:
    return str(uuid_utils.uuid7() if name is None else uuid5(NAMES, f"{name}/{number}"))


async def _acknowledged(submissions: Sequence[Submission]) -> None:
    """Waits until Kafka has every request.

    Raises:
        RequestNotPublished: it was silent for too long.
        KafkaUnavailable, TopicNotFound: it could not be published.
    """
    futures: list[Future[RecordPosition]] = [submission.acknowledged for submission in submissions]
    try:
        async with asyncio.timeout(PUBLISH_S):
            await asyncio.gather(*map(asyncio.wrap_future, futures))
    except TimeoutError:
        first = submissions[0].request_id
        raise RequestNotPublished(first, f"no acknowledgement within {PUBLISH_S:g} s") from None
