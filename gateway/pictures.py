"""`/api/v1/images/…`: images out again, whole, small, or with their boxes."""

from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from typing import Annotated, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse

from gateway.openapi import problems
from gateway.problems import Refused
from gateway.results import answers_to
from gateway.services import Given, Services
from infra.images.decoding import open_image
from infra.s3 import S3Unavailable
from producers.drawing import annotate
from schemas.errors import ErrorCode
from schemas.messages import Box, Detection, Result

router = APIRouter()

CHUNK_BYTES = 256 * 1024
FOR_EVER = "private, max-age=86400, immutable"
"""What belongs to a request does not change."""


@router.get(
    "/images/{request_id}",
    response_class=Response,
    responses={
        200: {"description": "The file as it was stored.", "content": {"image/*": {}}},
        206: {"description": "The part that `Range` asks for.", "content": {"image/*": {}}},
        **problems(
            ErrorCode.REQUEST_NOT_FOUND,
            ErrorCode.OBJECT_NOT_FOUND,
            ErrorCode.DATABASE_UNAVAILABLE,
            ErrorCode.S3_UNAVAILABLE,
        ),
    },
)
async def show_image(
    request_id: str, services: Given, part: Annotated[str | None, Header(alias="range")] = None
) -> Response:
    """The original of a request's image."""
    result = (await answers_to(services, request_id))[0]
    found = await services.in_store(_open, services, result, part)
    headers = {
        "ETag": found["ETag"],
        "Content-Length": str(found["ContentLength"]),
        "Accept-Ranges": "bytes",
        "Cache-Control": FOR_EVER,
        # A stranger's file must never be a page of ours.
        "Content-Disposition": "inline",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if "ContentRange" in found:
        headers["Content-Range"] = found["ContentRange"]
    status = 206 if "ContentRange" in found else 200
    return StreamingResponse(
        _pieces(services, found["Body"]), status, headers, media_type=_media_type(result)
    )


def _media_type(result: Result) -> str:
    kind = result.image.format
    return "application/octet-stream" if kind is None else f"image/{kind.lower()}"


def _open(services: Services, result: Result, part: str | None) -> Any:
    """The object, with its body unread; only from a bucket that requests may name."""
    image = result.image
    if image.bucket not in services.s3.allowed_buckets:
        raise Refused(
            ErrorCode.BUCKET_NOT_ALLOWED, f"the bucket {image.bucket!r} is not in S3_ALLOWED_BUCKETS"
        )
    options: dict[str, Any] = {"Range": part} if part else {}
    if image.version_id:
        options["VersionId"] = image.version_id
    try:
        return services.store.get_object(Bucket=image.bucket, Key=image.key, **options)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 416:
            raise Refused(ErrorCode.USAGE, f"Range: {part!r} lies outside the file") from None
        if status == 404:
            raise Refused(ErrorCode.OBJECT_NOT_FOUND, f"s3://{image.bucket}/{image.key} is gone") from None
        raise S3Unavailable(services.s3, str(error)) from None
    except BotoCoreError as error:
        raise S3Unavailable(services.s3, str(error)) from None


async def _pieces(services: Services, body: Any) -> AsyncIterator[bytes]:
    try:
        while piece := await services.in_store(body.read, CHUNK_BYTES):
            yield piece
    finally:
        body.close()


@router.get(
    "/images/{request_id}/preview",
    response_class=Response,
    responses={
        200: {"description": "The image, smaller.", "content": {"image/webp": {}}},
        **problems(
            ErrorCode.REQUEST_NOT_FOUND,
            ErrorCode.OBJECT_NOT_FOUND,
            ErrorCode.OBJECT_TOO_LARGE,
            ErrorCode.IMAGE_CORRUPT,
            ErrorCode.DATABASE_UNAVAILABLE,
            ErrorCode.S3_UNAVAILABLE,
        ),
    },
)
async def show_preview(
    request_id: str,
    services: Given,
    size: Annotated[int, Query(ge=16, le=2048, description="The longer side at most, in pixels.")] = 480,
) -> Response:
    """The image upright and small, for lists."""
    result = (await answers_to(services, request_id))[0]
    content = await services.in_store(_read_whole, services, result)
    small = await services.decode(_shrink, content, size, services.max_pixels)
    return Response(small, media_type="image/webp", headers={"Cache-Control": FOR_EVER})


@router.get(
    "/images/{request_id}/annotated",
    response_class=Response,
    responses={
        200: {"description": "The image with its boxes.", "content": {"image/png": {}, "image/webp": {}}},
        **problems(
            ErrorCode.REQUEST_NOT_FOUND,
            ErrorCode.OBJECT_NOT_FOUND,
            ErrorCode.OBJECT_TOO_LARGE,
            ErrorCode.IMAGE_CORRUPT,
            ErrorCode.DATABASE_UNAVAILABLE,
            ErrorCode.S3_UNAVAILABLE,
        ),
    },
)
async def show_annotated(
    request_id: str,
    services: Given,
    module: Annotated[str | None, Query(description="Whose boxes; of the newest answer without it.")] = None,
    min_score: Annotated[float, Query(ge=0, le=1, description="Leave out what is less sure.")] = 0.0,
    size: Annotated[int, Query(ge=16, le=4096, description="The longer side at most, in pixels.")] = 1600,
    kind: Annotated[Literal["png", "webp"], Query(alias="format")] = "webp",
) -> Response:
    """The image with its detections drawn into it."""
    answers = await answers_to(services, request_id)
    of_module = [result for result in answers if module in (None, result.module.name)]
    if not of_module:
        raise Refused(ErrorCode.REQUEST_NOT_FOUND, f"{module!r} has not answered {request_id!r} (yet)")
    result = of_module[0]
    content = await services.in_store(_read_whole, services, result)
    drawn = await services.decode(_draw, content, result, min_score, size, kind, services.max_pixels)
    return Response(drawn, media_type=f"image/{kind}", headers={"Cache-Control": "private, max-age=3600"})


def _read_whole(services: Services, result: Result) -> bytes:
    found = _open(services, result, None)
    with found["Body"] as body:
        if found["ContentLength"] > services.settings.max_upload_bytes:
            raise Refused(
                ErrorCode.OBJECT_TOO_LARGE,
                f"the file has {found['ContentLength']} bytes (GATEWAY_MAX_UPLOAD_BYTES)",
            )
        content: bytes = body.read()
        return content


def _shrink(content: bytes, size_px: int, max_pixels: int) -> bytes:
    opened = open_image(content, max_pixels)
    opened.reduce(size_px)
    image = opened.pixels()
    image.thumbnail((size_px, size_px))
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def _draw(
    content: bytes, result: Result, min_score: float, size_px: int, kind: str, max_pixels: int
) -> bytes:
    opened = open_image(content, max_pixels)
    width_px = opened.header.width_px
    opened.reduce(size_px)
    image = opened.pixels()
    image.thumbnail((size_px, size_px))
    drawn = annotate(image, _scaled(result.detections, image.width / width_px, min_score))
    buffer = BytesIO()
    drawn.save(buffer, kind.upper())
    return buffer.getvalue()


def _scaled(detections: Sequence[Detection], factor: float, min_score: float) -> list[Detection]:
    """Those that are sure enough, in pixels of an image of another size."""
    return [
        Detection(Box(*(factor * side for side in (box.x, box.y, box.w, box.h))), detection.labels)
        for detection in detections
        if max((label.score for label in detection.labels), default=0.0) >= min_score
        for box in (detection.box,)
    ]
