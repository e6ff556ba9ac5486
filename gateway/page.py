"""The page for people, at `/`; programs that ask there get the old server's list."""

from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gateway.old_api import index
from gateway.services import Given

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root(request: Request, services: Given, token: str | None = None, page: int = 1) -> Response:
    """The page, for a browser; the old server's list for anybody else."""
    if "text/html" not in request.headers.get("accept", ""):
        return await index(request, services, token, min(max(1, page), 10**9))
    return FileResponse(
        STATIC / "index.html",
        headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Vary": "Accept"},
    )


def add_page(app: FastAPI) -> None:
    """Adds the page and what it consists of."""
    app.include_router(router)
    app.mount("/static", _Static(directory=STATIC))


class _Static(StaticFiles):
    """Files that are asked for again each time, and not sent again where they are the same."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sends(message: object) -> None:
            assert isinstance(message, dict)
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"no-cache")]
            await send(message)

        await super().__call__(scope, receive, sends)
