"""`/api/v1/results`: what was answered, from PostgreSQL."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from msgspec.structs import replace

from gateway.openapi import json_answer, json_of, problems
from gateway.problems import Refused
from gateway.services import Given, Services
from gateway.stored import Page, Wanted, read_cursor, read_page
from schemas.errors import ErrorCode
from schemas.messages import Result, Status

router = APIRouter()

EXPORT_PAGE = 1000
NDJSON, CSV = "application/x-ndjson", "text/csv"
COLUMNS = (
    "request_id",
    "status",
    "module",
    "module_version",
    "bucket",
    "key",
    "analyzed_at",
    "label",
    "score",
    "x",
    "y",
    "w",
    "h",
    "error_code",
    "error_message",
)
"""Of the CSV: a line for each detection, or one for a result without any."""


def wanted(
    request_id: Annotated[list[str] | None, Query(description="Only answers to these requests.")] = None,
    module: Annotated[str | None, Query(description="Only this module's.")] = None,
    label: Annotated[str | None, Query(description="Only with a detection of this label.")] = None,
    min_score: Annotated[
        float | None, Query(ge=0, le=1, description="Only with a detection (of `label`) this sure.")
    ] = None,
    status: Annotated[Status | None, Query(description="`ok` or `failed`.")] = None,
    error_code: Annotated[str | None, Query(description="Only failures with this code.")] = None,
    key_prefix: Annotated[str | None, Query(description="Only images whose key begins so.")] = None,
    attribute: Annotated[str | None, Query(description="`name=value` that the request had.")] = None,
    since: Annotated[datetime | None, Query(description="Asked for at this time or later.")] = None,
    until: Annotated[datetime | None, Query(description="Asked for before this time.")] = None,
    cursor: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
) -> Wanted:
    """The filters of a list."""
    name, found, value = (attribute or "").partition("=")
    if attribute is not None and not (name and found):
        raise Refused(ErrorCode.USAGE, f"attribute: {attribute!r} is not of the form name=value")
    for moment_name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise Refused(ErrorCode.USAGE, f"{moment_name}: {moment.isoformat()} has no time zone")
    return Wanted(
        request_ids=request_id or (),
        module=module,
        label=label,
        min_score=min_score,
        status=status,
        error_code=error_code,
        key_prefix=key_prefix,
        attribute=(name, value) if attribute is not None else None,
        since=since,
        until=until,
        before=None if cursor is None else read_cursor(cursor),
    )


class ResultList(msgspec.Struct, frozen=True):
    """A page of results, newest first."""

    results: list[Result]
    next: str | None
    """The `cursor` of the next page; null at the end."""


@router.get(
    "/results",
    response_class=Response,
    responses={
        200: json_of(ResultList, "A page; with `Accept: application/x-ndjson` or `text/csv`, all of them."),
        **problems(ErrorCode.USAGE, ErrorCode.DATABASE_UNAVAILABLE),
    },
)
async def list_results(
    request: Request,
    services: Given,
    filters: Annotated[Wanted, Depends(wanted)],
    limit: Annotated[int, Query(ge=1, le=200, description="Results a page.")] = 50,
) -> Response:
    """Results, newest first; a cursor goes on where its page ended, whatever was stored since."""
    accepted = request.headers.get("accept", "")
    for kind, encode in ((NDJSON, _as_ndjson), (CSV, _as_csv)):
        if kind in accepted:
            first = await _page(services, filters, EXPORT_PAGE)
            return StreamingResponse(_export(services, filters, first, encode), media_type=kind)
    page = await _page(services, filters, limit)
    return json_answer(ResultList(page.results, page.cursor))


class Answers(msgspec.Struct, frozen=True):
    """What every module has answered to one request so far."""

    request_id: str
    results: list[Result]


@router.get(
    "/results/{request_id}",
    response_class=Response,
    responses={
        200: json_of(Answers, "Each module's answer, newest first."),
        **problems(ErrorCode.REQUEST_NOT_FOUND, ErrorCode.DATABASE_UNAVAILABLE),
    },
)
async def show_result(request_id: str, services: Given) -> Response:
    """The answers to one request."""
    found = await answers_to(services, request_id)
    return json_answer(Answers(request_id, found))


async def answers_to(services: Services, request_id: str) -> list[Result]:
    """What is known of one request: stored, or committed a moment ago.

    Raises:
        Refused: nothing is, yet.
    """
    page = await _page(services, Wanted(request_ids=(request_id,)), EXPORT_PAGE)
    stored = {(result.source, result.module) for result in page.results}
    recent = [one for one in services.feed.recent(request_id) if (one.source, one.module) not in stored]
    if not page.results and not recent:
        raise Refused(ErrorCode.REQUEST_NOT_FOUND, f"there is no answer to {request_id!r} (yet)")
    return [*recent, *page.results]


async def _page(services: Services, filters: Wanted, limit: int) -> Page:
    return await services.database.read(lambda cursor: read_page(cursor, filters, limit))


Encode = Callable[[Sequence[Result], bool], bytes]


async def _export(services: Services, filters: Wanted, page: Page, encode: Encode) -> AsyncIterator[bytes]:
    yield await anyio.to_thread.run_sync(encode, page.results, True)
    while page.cursor is not None:
        filters = replace(filters, before=read_cursor(page.cursor))
        page = await _page(services, filters, EXPORT_PAGE)
        yield await anyio.to_thread.run_sync(encode, page.results, False)


def _as_ndjson(results: Sequence[Result], _: bool) -> bytes:
    return msgspec.json.Encoder().encode_lines(results)


def _as_csv(results: Sequence[Result], first: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    if first:
        writer.writerow(COLUMNS)
    for result in results:
        writer.writerows(_rows(result))
    return text.getvalue().encode()


def _rows(result: Result) -> Iterator[tuple[object, ...]]:
    about = (
        result.request_id,
        result.status,
        result.module.name,
        result.module.version,
        result.image.bucket,
        result.image.key,
        result.analyzed_at.isoformat(),
    )
    error = (result.error.code, result.error.message) if result.error is not None else (None, None)
    for detection in result.detections:
        box = detection.box
        best = max(detection.labels, key=lambda label: label.score, default=None)
        label = (best.label, best.score) if best is not None else (None, None)
        yield tuple(map(_cell, (*about, *label, box.x, box.y, box.w, box.h, *error)))
    if not result.detections:
        yield tuple(map(_cell, (*about, *[None] * 6, *error)))


def _cell(value: object) -> object:
    # A spreadsheet runs what begins like a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
