"""The gateway's app: every route, and what stands before them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from gateway import dead_letters, images, old_api, openapi, pictures, results, stats, stream
from gateway.limits import BodyLimit
from gateway.page import add_page
from gateway.problems import handle_problems
from gateway.security import Guard
from gateway.services import Given, Services

DESCRIPTION = "Ask for the analysis of images, and read what the analyzer found."


def make_app(services: Services) -> FastAPI:
    """An app with its own life: it begins to follow the results when it starts."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        services.feed.start()
        yield
        services.feed.stop()
        services.client.close(timeout_s=5.0)
        services.database.close()

    app = FastAPI(
        title="Image analysis",
        version=version("analysis"),
        description=DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.services = services
    settings = services.settings
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_request_bytes,
        timeout_s=settings.upload_timeout_s,
    )
    open_to_others = bool(settings.api_keys) or settings.allow_anonymous
    app.add_middleware(Guard, keys=settings.api_keys, only_here=not open_to_others)
    handle_problems(app)
    for routes in (images, pictures, results, stream, stats, dead_letters):
        app.include_router(routes.router, prefix="/api/v1")
    app.include_router(old_api.router)
    add_page(app)
    _add_probes(app)
    openapi.describe(app)
    return app


def _add_probes(app: FastAPI) -> None:
    @app.get("/livez", include_in_schema=False)
    async def live() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    async def ready(services: Given) -> JSONResponse:
        if services.feed.connected:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "failing", "results": "not followed yet"}, 503)
