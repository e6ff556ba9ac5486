"""The OpenAPI document: shapes come from the message classes themselves."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from gateway.problems import PROBLEM, STATUSES, Problem
from schemas.errors import ErrorCode

_TYPES: list[type] = [Problem]
_REFERENCE = "#/components/schemas/{name}"


def shape_of(kind: type) -> dict[str, str]:
    """A reference to a message class's schema, which becomes part of the document."""
    if kind not in _TYPES:
        _TYPES.append(kind)
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def json_of(kind: type, description: str, example: Any = None) -> dict[str, Any]:
    """An answer in JSON, for a route's `responses`."""
    content: dict[str, Any] = {"schema": shape_of(kind)}
    if example is not None:
        content["example"] = msgspec.to_builtins(example)
    return {"description": description, "content": {"application/json": content}}


def json_answer(
    value: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """What `json_of` has promised."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def problems(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """Errors that a route may answer with, by status, for its `responses`."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status = STATUSES.get(code, 500)
        found = by_status.setdefault(status, {"description": "", "content": _problem_content()})
        found["description"] = ", ".join(filter(None, (found["description"], f"`{code}`")))
    return by_status


def describe(app: FastAPI) -> None:
    """Has an app serve a document with these shapes in it."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            _, components = msgspec.json.schema_components(_TYPES, ref_template=_REFERENCE)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(components)
            for path in document["paths"].values():
                for operation in path.values():
                    _replace_framework_errors(operation["responses"])
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _replace_framework_errors(responses: dict[str, Any]) -> None:
    # A parameter that breaks its rule is answered with 400 here, and not with FastAPI's 422.
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
        for status, found in problems(ErrorCode.USAGE).items():
            responses.setdefault(str(status), found)


def _problem_content() -> Mapping[str, Any]:
    return {PROBLEM: {"schema": {"$ref": _REFERENCE.format(name="Problem")}}}
