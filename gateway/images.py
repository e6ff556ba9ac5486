"""`/api/v1/images`: images in."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from gateway.openapi import json_answer, json_of, problems, shape_of
from gateway.problems import Refused
from gateway.services import Given, Services
from gateway.uploads import Accepted, JsonRequest, Taken, Upload, Wish, read_json
from infra.settings import GatewaySettings
from producers.errors import RequestRefused
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, Result

router = APIRouter()


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
    return json_answer(AcceptedImages(images), 200 if taken.complete else 202, headers)


def _location(accepted: list[Accepted]) -> str:
    if len(accepted) == 1:
        return f"/api/v1/results/{accepted[0].request_id}"
    return "/api/v1/results?" + "&".join(f"request_id={one.request_id}" for one in accepted)
