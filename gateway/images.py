"""`/api/v1/images`: images in, and out again, with boxes where they are wanted."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Annotated, Any, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from gateway.openapi import json_of, problems, shape_of
from gateway.problems import Refused
from gateway.results import answers_to
from gateway.services import Given, Services
from gateway.uploads import Accepted, JsonRequest, Taken, Upload, Wish, read_json
from infra.images.decoding import open_image
from infra.s3 import S3Unavailable
from infra.settings import GatewaySettings
from producers.drawing import annotate
from producers.errors import RequestRefused
from schemas.errors import ErrorCode
from schemas.messages import Box, Detection, ImageReference, Result

router = APIRouter()

CHUNK_BYTES = 256 * 1024
FOR_EVER = "private, max-age=86400, immutable"
"""What belongs to a request does not change."""


class AcceptedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image of a request: its name there, and what it is known by from now on."""

    name: str
    request_id: str
    image: ImageReference
    results: list[Result] | None = None
    """Where they were waited for, and have come."""


class AcceptedImages(msgspec.Struct, frozen=True):
    """What was accepted: every image of the request, each with an id of its own."""

    images: list[AcceptedImage]


@router.post(
    "/images",
    status_code=202,
    response_class=Response,
    responses={
        200: json_of(AcceptedImages, "Accepted, and answered while the client waited."),
        202: json_of(AcceptedImages, "Accepted: Kafka has every request; `Location` shows the answers."),
        **problems(
            ErrorCode.USAGE,
            ErrorCode.MESSAGE_NOT_JSON,
            ErrorCode.MESSAGE_INVALID,
            ErrorCode.BUCKET_NOT_ALLOWED,
            ErrorCode.UPLOAD_TOO_LARGE,
            ErrorCode.UPLOAD_TIMEOUT,
            ErrorCode.IMAGE_NOT_RECOGNIZED,
            ErrorCode.IMAGE_FORMAT_UNSUPPORTED,
            ErrorCode.IMAGE_CORRUPT,
            ErrorCode.RATE_LIMITED,
            ErrorCode.KAFKA_UNAVAILABLE,
            ErrorCode.S3_UNAVAILABLE,
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": shape_of(JsonRequest)},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                            "module": {"type": "array", "items": {"type": "string"}},
                            "attributes": {"type": "string", "description": "A JSON object of strings."},
                        },
                    }
                },
            },
        }
    },
)
async def post_images(
    request: Request,
    services: Given,
    wait: Annotated[float | None, Query(ge=0, description="Seconds to wait for the answers.")] = None,
    prefer: Annotated[str | None, Header(description="`wait=10` does as `?wait=10`.")] = None,
    idempotency_key: Annotated[
        str | None,
        Header(max_length=255, description="The same key again asks for the same, under the same ids."),
    ] = None,
) -> Response:
    """Asks for the analysis of files, or of images that are in the object store already."""
    uploads, wish = await _read(request, services)
    services.rates.take(request.state.caller, len(uploads))
    seconds = min(_wait_s(wait, prefer), services.settings.max_wait_s)
    # Keys of different callers are different keys.
    name = None if idempotency_key is None else f"{request.state.caller}/{idempotency_key}"
    taken = await services.desk.take(uploads, msgspec.structs.replace(wish, wait_s=seconds), name)
    return _answer(taken)


async def _read(request: Request, services: Services) -> tuple[list[Upload], Wish]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        uploads, wish = read_json(await request.body())
    elif kind == "multipart/form-data":
        uploads, wish = await _read_form(request, services.settings)
    else:
        raise Refused(
            ErrorCode.USAGE,
            f"the body is {kind or 'of no type'}, not multipart/form-data or application/json",
        )
    if not uploads:
        raise Refused(ErrorCode.USAGE, "there is no image in the request")
    most = services.settings.max_upload_files
    if len(uploads) > most:
        raise Refused(ErrorCode.UPLOAD_TOO_LARGE, f"{len(uploads)} images are more than {most} at once")
    return uploads, wish


async def _read_form(request: Request, settings: GatewaySettings) -> tuple[list[Upload], Wish]:
    form = await read_form(request, settings)
    try:
        files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
        uploads = [Upload(file.filename or "image", await file.read()) for file in files]
        modules = tuple(str(name) for name in form.getlist("module") if name)
        return uploads, Wish(modules=modules, attributes=_attributes(str(form.get("attributes") or "{}")))
    finally:
        await form.close()


async def read_form(request: Request, settings: GatewaySettings) -> FormData:
    """A form with files, which lie on disk beyond a megabyte each.

    Raises:
        Refused: it is none, has too many files, or one of them is too large.
    """
    try:
        form = await request.form(max_files=settings.max_upload_files, max_fields=100)
    except (MultiPartException, HTTPException) as error:
        raise Refused(ErrorCode.USAGE, str(getattr(error, "detail", error))) from None
    for _, file in form.multi_items():
        if isinstance(file, UploadFile) and (file.size or 0) > settings.max_upload_bytes:
            await form.close()
            what = f"{file.filename}: {file.size} bytes are more than {settings.max_upload_bytes}"
            raise Refused(ErrorCode.UPLOAD_TOO_LARGE, f"{what} (GATEWAY_MAX_UPLOAD_BYTES)")
    return form


def _attributes(text: str) -> Mapping[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise Refused(ErrorCode.MESSAGE_INVALID, f"attributes: {error}") from None


def _wait_s(wait: float | None, prefer: str | None) -> float:
    if wait is not None:
        return wait
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait":
            with suppress(ValueError):
                return max(0.0, float(value))
    return 0.0


def _answer(taken: Taken) -> Response:
    results = taken.expected.results
    images = [
        AcceptedImage(one.name, one.request_id, one.image, results[one.request_id] or None)
        for one in taken.accepted
    ]
    for refusal in taken.expected.refusals.values():
        raise RequestRefused(refusal.request_id, refusal.code, refusal.message)
    headers = {"Location": _location(taken.accepted)}
    return Response(
        msgspec.json.encode(AcceptedImages(images)),
        200 if taken.complete else 202,
        headers,
        media_type="application/json",
    )


def _location(accepted: list[Accepted]) -> str:
    if len(accepted) == 1:
        return f"/api/v1/results/{accepted[0].request_id}"
    return "/api/v1/results?" + "&".join(f"request_id={one.request_id}" for one in accepted)


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
