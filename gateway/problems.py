"""Errors as RFC 9457 problem details, with the codes of the one list."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
RETRY_AFTER_S = 5

STATUSES: Mapping[ErrorCode, int] = {
    ErrorCode.USAGE: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.BUCKET_NOT_ALLOWED: 403,
    ErrorCode.ORIGIN_REFUSED: 403,
    ErrorCode.OBJECT_ACCESS_DENIED: 403,
    ErrorCode.OBJECT_NOT_FOUND: 404,
    ErrorCode.REQUEST_NOT_FOUND: 404,
    ErrorCode.UPLOAD_TIMEOUT: 408,
    ErrorCode.UPLOAD_TOO_LARGE: 413,
    ErrorCode.OBJECT_TOO_LARGE: 413,
    ErrorCode.IMAGE_TOO_LARGE: 413,
    ErrorCode.IMAGE_FORMAT_UNSUPPORTED: 415,
    ErrorCode.IMAGE_NOT_RECOGNIZED: 415,
    ErrorCode.IMAGE_CORRUPT: 422,
    ErrorCode.OBJECT_EMPTY: 422,
    ErrorCode.KEY_INVALID: 422,
    ErrorCode.MESSAGE_INVALID: 422,
    ErrorCode.MESSAGE_NOT_JSON: 400,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.KAFKA_UNAVAILABLE: 503,
    ErrorCode.S3_UNAVAILABLE: 503,
    ErrorCode.DATABASE_UNAVAILABLE: 503,
    ErrorCode.DATABASE_NOT_MIGRATED: 503,
    ErrorCode.TOPIC_NOT_FOUND: 503,
    ErrorCode.BUCKET_NOT_FOUND: 503,
    ErrorCode.REQUEST_NOT_PUBLISHED: 503,
    ErrorCode.UPLOAD_REFUSED: 502,
}
"""The HTTP status of each code that a request can end with; any other is a 500."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an error looks like on the wire."""

    type: str
    """`urn:analysis:error:` and the code."""
    title: str
    status: int
    detail: str
    code: str


class Refused(AnalysisError):
    """This request cannot be served; the code says which status that is."""


def response(code: ErrorCode, detail: str) -> Response:
    """The answer to a request that ends with this error."""
    status = STATUSES.get(code, 500)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _respond(status, code, code.description, detail, headers)


def handle_problems(app: FastAPI) -> None:
    """Has every error of an app answered as a problem, those of the framework too."""
    app.add_exception_handler(AnalysisError, _analysis_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _bug)


async def _analysis_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnalysisError)
    if STATUSES.get(error.code, 500) >= 500:
        logger.warning("%s: %s", error.code, error.message)
    return response(error.code, error.message)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _respond(error.status_code, "http", str(error.detail), str(error.detail), error.headers or {})


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return response(ErrorCode.USAGE, f"{where}: {first['msg']}")


async def _bug(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return response(ErrorCode.INTERNAL_ERROR, "a bug in the service; the traceback is in its log")


def _respond(status: int, code: str, title: str, detail: str, headers: Mapping[str, Any]) -> Response:
    problem = Problem(
        type=f"urn:analysis:error:{code}", title=title, status=status, detail=detail, code=str(code)
    )
    return Response(msgspec.json.encode(problem), status, dict(headers), media_type=PROBLEM)
