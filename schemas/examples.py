"""Example messages: shown in the published schemas, decoded by the tests."""

from datetime import UTC, datetime

from schemas.dead_letters import dead_letter_headers
from schemas.errors import ErrorCode
from schemas.messages import (
    VERSION,
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    ImageReference,
    Label,
    ModuleIdentity,
    RecordPosition,
    Request,
    Result,
    SourcePosition,
    Timings,
)

_ASKED = datetime(2026, 11, 23, 9, 30, 0, 120_000, tzinfo=UTC)
_TAKEN = datetime(2026, 11, 23, 9, 30, 0, 125_000, tzinfo=UTC)
_ANSWERED = datetime(2026, 11, 23, 9, 30, 0, 171_000, tzinfo=UTC)
_FACES = ModuleIdentity("faces", "1.0")
_TOPIC_ID = "Xb0yWmn4Q8mZ3f9n1c5r2A"

SHORTEST_REQUEST = Request(
    version=VERSION, request_id="my-first", image=ImageReference("images", "cats/tom.jpg")
)

REQUEST = Request(
    version=VERSION,
    request_id="0193578a-9c00-7c3e-8a54-2f6f6e0f5b11",
    image=ImageReference("uploads", "2026/11/23/party.jpg", etag="9b2cf535f27731c974343645a3985328"),
    modules=("faces",),
    requested_at=_ASKED,
    attributes={"camera": "entrance"},
)

RESULT = Result(
    request_id=REQUEST.request_id,
    status="ok",
    module=_FACES,
    image=AnalyzedImage(
        bucket="uploads",
        key="2026/11/23/party.jpg",
        etag="9b2cf535f27731c974343645a3985328",
        width_px=4032,
        height_px=3024,
        size_bytes=2_481_920,
        format="JPEG",
    ),
    detections=(
        Detection(Box(1204.5, 811.0, 310.2, 402.8), (Label("face", 0.9987),)),
        Detection(Box(2210.0, 790.3, 295.0, 388.1), (Label("face", 0.9713),)),
    ),
    source=SourcePosition(_TOPIC_ID, "analysis.images", 3, 1042, 0, _TAKEN),
    timings_ms=Timings(queued=2.1, fetch=6.4, decode=18.9, infer=14.2, total=46.0),
    requested_at=_ASKED,
    analyzed_at=_ANSWERED,
    attributes={"camera": "entrance"},
)

FAILED_RESULT = Result(
    request_id=SHORTEST_REQUEST.request_id,
    status="failed",
    module=_FACES,
    image=AnalyzedImage(bucket="images", key="cats/tom.jpg"),
    error=Failure(ErrorCode.OBJECT_NOT_FOUND, "bucket 'images' has no object 'cats/tom.jpg'"),
    source=SourcePosition(_TOPIC_ID, "analysis.images", 0, 17, 0, _TAKEN),
    timings_ms=Timings(queued=1.8, fetch=3.2, total=5.4),
    analyzed_at=_ANSWERED,
)

REQUESTS = (SHORTEST_REQUEST, REQUEST)
RESULTS = (RESULT, FAILED_RESULT)

DEAD_LETTER_HEADERS = dead_letter_headers(
    original_headers=[],
    code=ErrorCode.BUCKET_NOT_ALLOWED,
    message="bucket 'secrets' is not in S3_ALLOWED_BUCKETS",
    position=RecordPosition(_TOPIC_ID, "analysis.images", 3, 1043, _TAKEN),
    attempts=1,
    failed_at=_ANSWERED,
    component="analyzer.faces",
)
