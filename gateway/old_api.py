"""The API of the Django server that this service replaces: the same URLs, fields and pages.

`POST /` or `/analyzer/` with a form field `image` answers with the analysis; `GET` lists all, 50 a page,
newest first. A token is a request's id. Lists hold what is answered: nothing else is kept of a request.
"""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from gateway.images import read_form
from gateway.problems import Refused
from gateway.results import answers_to
from gateway.services import Given
from gateway.stored import Wanted, count_results, read_page_by_number
from gateway.uploads import Upload, Wish
from producers.errors import RequestRefused
from schemas.messages import Result

router = APIRouter(include_in_schema=False)

PAGE = 50


@router.post("/")
@router.post("/analyzer/")
async def create(request: Request, services: Given) -> Response:
    """Analyzes the file in the form field `image`; 201, with an empty `result` where none came in time."""
    form = await read_form(request, services.settings)
    try:
        file = form.get("image")
        if not isinstance(file, UploadFile):
            # The old server's own words and status.
            return JSONResponse({"image": ["No file was submitted."]}, 400)
        upload = Upload(file.filename or "image", await file.read())
    finally:
        await form.close()
    services.rates.take(request.state.caller, 1)
    taken = await services.desk.take([upload], Wish(wait_s=services.settings.old_wait_s))
    (accepted,) = taken.accepted
    for refusal in taken.expected.refusals.values():
        raise RequestRefused(refusal.request_id, refusal.code, refusal.message)
    results = taken.expected.results[accepted.request_id]
    return JSONResponse(_analysis(request, accepted.request_id, results[0] if results else None), 201)


@router.get("/analyzer/")
async def index(
    request: Request,
    services: Given,
    token: str | None = None,
    page: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> Response:
    """A page of everything that was analyzed, or the one with this token."""
    wanted = Wanted(request_ids=() if token is None else (token,))
    count, results = await services.database.read(
        lambda cursor: (count_results(cursor, wanted), read_page_by_number(cursor, wanted, page, PAGE))
    )
    if page > 1 and not results:
        return JSONResponse({"detail": "Invalid page."}, 404)
    return JSONResponse(
        {
            "count": count,
            "next": _page_url(request, page + 1) if page * PAGE < count else None,
            "previous": _page_url(request, page - 1) if page > 1 else None,
            "results": [_analysis(request, result.request_id, result) for result in results],
        }
    )


@router.get("/analyzer/{token}/")
async def detail(token: str, request: Request, services: Given) -> Response:
    """One analysis."""
    try:
        results = await answers_to(services, token)
    except Refused:
        return JSONResponse({"detail": "Not found."}, 404)
    return JSONResponse(_analysis(request, token, results[0]))


def _analysis(request: Request, token: str, result: Result | None) -> dict[str, Any]:
    at = None if result is None else result.analyzed_at.isoformat().replace("+00:00", "Z")
    asked = None if result is None else (result.requested_at or result.source.timestamp)
    detections = () if result is None else result.detections
    return {
        "image": str(request.base_url) + f"api/v1/images/{token}",
        "token": token,
        "uploaded_date": None if asked is None else asked.isoformat().replace("+00:00", "Z"),
        "updated_date": at,
        "result": [
            {
                "position": {
                    "x": detection.box.x,
                    "y": detection.box.y,
                    "w": detection.box.w,
                    "h": detection.box.h,
                },
                "label": [{"description": one.label, "score": one.score} for one in detection.labels],
            }
            for detection in detections
        ],
    }


def _page_url(request: Request, number: int) -> str:
    others = {name: value for name, value in request.query_params.items() if name != "page"}
    query = urlencode({**others, "page": number} if number > 1 else others)
    return f"{str(request.base_url).rstrip('/')}{request.url.path}{'?' + query if query else ''}"
