"""What travels between the services: requests and results, as frozen structs.

Boxes are in pixels of the upright original image (EXIF orientation applied), origin top left.
Times are timezone-aware and kept in UTC; on the wire they are RFC 3339.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

VERSION: Final = 1

Version = Annotated[Literal[1], Meta(description="Major version of the format.")]
Status = Literal["ok", "failed"]
Moment = Annotated[datetime, Meta(tz=True)]
RequestId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        # Not `$` at the end: in Python it also matches before a last line feed.
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])",
        description="1 to 128 printable characters that name the request; results carry the same one.",
    ),
]
Attributes = Annotated[dict[str, str], Meta(description="The sender's own notes; results carry them on.")]


class Box(msgspec.Struct, frozen=True):
    """An axis-aligned rectangle in pixels of the upright original image."""

    x: Annotated[float, Meta(description="Left edge.")]
    y: Annotated[float, Meta(description="Top edge.")]
    w: Annotated[float, Meta(ge=0, description="Width.")]
    h: Annotated[float, Meta(ge=0, description="Height.")]


class Label(msgspec.Struct, frozen=True):
    """What a box may contain, and how sure the module is."""

    label: str
    score: Annotated[float, Meta(ge=0, le=1, description="Confidence in [0, 1].")]


class Detection(msgspec.Struct, frozen=True):
    """One box and its labels, best first by the module's own order."""

    box: Box
    labels: tuple[Label, ...]


class ImageReference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an image lies: an object in an S3 bucket, optionally one version of it."""

    bucket: Annotated[str, Meta(min_length=1, max_length=255, description="One of the allowed buckets.")]
    key: Annotated[
        str, Meta(min_length=1, description="The object's key, as plain text of up to 1024 bytes.")
    ]
    version_id: Annotated[str | None, Meta(description="The object's version; without it, the newest.")] = (
        None
    )
    etag: Annotated[
        str | None,
        Meta(description="The ETag that the object must still have; without it, any."),
    ] = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """ "Analyze this image": one record on the images topic."""

    version: Version
    request_id: RequestId
    image: ImageReference
    modules: Annotated[
        tuple[str, ...] | None,
        Meta(description="Names of the modules that shall answer; without any, all that run."),
    ] = None
    requested_at: Annotated[Moment | None, Meta(description="When the sender asked.")] = None
    attributes: Attributes = {}

    def __post_init__(self) -> None:
        _keep_in_utc(self, "requested_at")

    def wants(self, module: str) -> bool:
        """Whether `module` should answer: a request without a list is for every running module."""
        return not self.modules or module in self.modules


class ModuleIdentity(msgspec.Struct, frozen=True):
    """Which module answered."""

    name: str
    version: str


class AnalyzedImage(msgspec.Struct, frozen=True, kw_only=True):
    """The image as found: reference, then what fetching and decoding revealed (null where not reached)."""

    bucket: str
    key: Annotated[str, Meta(description="The key that was read.")]
    version_id: str | None = None
    etag: str | None = None
    width_px: Annotated[int | None, Meta(description="Width of the upright image.")] = None
    height_px: Annotated[int | None, Meta(description="Height of the upright image.")] = None
    size_bytes: Annotated[int | None, Meta(description="Size of the object.")] = None
    format: Annotated[str | None, Meta(description="File format, such as `JPEG`.")] = None


class Failure(msgspec.Struct, frozen=True):
    """Why a request has no detections."""

    code: Annotated[str, Meta(description="One of the codes in docs/errors.md.")]
    message: Annotated[str, Meta(description="A sentence for people; its wording may change.")]


class SourcePosition(msgspec.Struct, frozen=True):
    """Where the request came from: the identity that makes every later step idempotent."""

    topic_id: Annotated[
        str, Meta(description="Kafka's id of the topic, which a topic made anew does not share.")
    ]
    topic: str
    partition: int
    offset: int
    index: Annotated[
        int, Meta(description="Place in the record's list of events; 0 for records without one.")
    ]
    timestamp: Annotated[Moment, Meta(description="The request record's Kafka timestamp.")]

    def __post_init__(self) -> None:
        _keep_in_utc(self, "timestamp")


class RecordPosition(msgspec.Struct, frozen=True):
    """Where a Kafka record lies, and its timestamp."""

    topic_id: str
    topic: str
    partition: int
    offset: int
    timestamp: datetime

    def at(self, index: int) -> SourcePosition:
        """The position of one request within this record."""
        return SourcePosition(self.topic_id, self.topic, self.partition, self.offset, index, self.timestamp)


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds spent on the way; null where a stage was not reached."""

    queued: Annotated[
        float | None, Meta(description="From the request's Kafka timestamp until a worker took it.")
    ] = None
    fetch: Annotated[float | None, Meta(description="Reading the object.")] = None
    decode: Annotated[float | None, Meta(description="Decoding and preparing the image.")] = None
    infer: Annotated[
        float | None, Meta(description="The model, for the whole batch: its images share it.")
    ] = None
    total: Annotated[
        float | None, Meta(description="From the request's Kafka timestamp until the answer.")
    ] = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one module answered to one request."""

    version: Version = VERSION
    request_id: str
    status: Status
    module: ModuleIdentity
    image: AnalyzedImage
    detections: tuple[Detection, ...] = ()
    error: Annotated[Failure | None, Meta(description="Set if and only if `status` is `failed`.")] = None
    source: SourcePosition
    timings_ms: Timings = Timings()
    requested_at: Annotated[Moment | None, Meta(description="When the sender asked, if it said so.")] = None
    analyzed_at: Annotated[Moment, Meta(description="When the answer was ready.")]
    attributes: Attributes = {}

    def __post_init__(self) -> None:
        _keep_in_utc(self, "requested_at")
        _keep_in_utc(self, "analyzed_at")


def _keep_in_utc(message: msgspec.Struct, field: str) -> None:
    moment: datetime | None = getattr(message, field)
    if moment is None or moment.tzinfo is UTC:
        return
    if moment.tzinfo is None:
        raise ValueError(f"`{field}` has no time zone")
    try:
        msgspec.structs.force_setattr(message, field, moment.astimezone(UTC))
    except OverflowError:
        raise ValueError(f"`{field}` lies outside the years 1 to 9999 in UTC") from None
