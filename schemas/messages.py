"""What travels between the services: requests and results, as frozen structs.

Boxes are in pixels of the upright original image (EXIF orientation applied), origin top left.
Times are timezone-aware; on the wire they are RFC 3339 in UTC.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

VERSION: Final = 1

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
Score = Annotated[float, Meta(ge=0, le=1, description="Confidence in [0, 1].")]
Status = Literal["ok", "failed"]


class Box(msgspec.Struct, frozen=True):
    """An axis-aligned rectangle: left, top, width and height in pixels."""

    x: float
    y: float
    w: Annotated[float, Meta(ge=0)]
    h: Annotated[float, Meta(ge=0)]


class Label(msgspec.Struct, frozen=True):
    """What a box may contain, and how sure the module is."""

    label: str
    score: Score


class Detection(msgspec.Struct, frozen=True):
    """One box and its labels, best first by the module's own order."""

    box: Box
    labels: tuple[Label, ...]


class ImageReference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an image lies: an object in an S3 bucket, optionally one version of it."""

    bucket: Annotated[str, Meta(min_length=1, max_length=255)]
    key: Annotated[str, Meta(min_length=1)]
    version_id: str | None = None
    etag: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """ "Analyze this image": one record on the images topic."""

    version: Annotated[Literal[1], Meta(description="Major version of the format.")]
    request_id: RequestId
    image: ImageReference
    modules: tuple[str, ...] | None = None
    requested_at: Moment | None = None
    attributes: dict[str, str] = {}

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
    key: str
    version_id: str | None = None
    etag: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    size_bytes: int | None = None
    format: str | None = None


class Failure(msgspec.Struct, frozen=True):
    """Why a request has no detections: a code of the one list, and a sentence."""

    code: str
    message: str


class SourcePosition(msgspec.Struct, frozen=True):
    """Where the request came from: the identity that makes every later step idempotent.

    `index` is the place within the record's list of events; it is 0 but for records that carry several.
    """

    topic_id: str
    topic: str
    partition: int
    offset: int
    index: int
    timestamp: Moment

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
    """Milliseconds spent on the way; null where a stage was not reached.

    `queued` runs from the request's Kafka timestamp until a worker took it; `total` from the same start
    until the answer was ready. `infer` is the whole batch's time, since its images share it.
    """

    queued: float | None = None
    fetch: float | None = None
    decode: float | None = None
    infer: float | None = None
    total: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one module answered to one request."""

    version: Annotated[Literal[1], Meta(description="Major version of the format.")] = VERSION
    request_id: str
    status: Status
    module: ModuleIdentity
    image: AnalyzedImage
    detections: tuple[Detection, ...] = ()
    error: Failure | None = None
    source: SourcePosition
    timings_ms: Timings = Timings()
    requested_at: Moment | None = None
    analyzed_at: Moment
    attributes: dict[str, str] = {}

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
