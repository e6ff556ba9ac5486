"""Writes what is published about the messages, from the code: `python -m schemas.documents`.

JSON Schema is draft-07, which every schema registry and AsyncAPI tool reads.
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas import asyncapi
from schemas.codec import encode
from schemas.errors import ErrorCode
from schemas.examples import REQUESTS, RESULTS
from schemas.messages import Request, Result

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

ERRORS_HEAD = """\
# Failure codes

Written by `python -m schemas.documents` from `schemas/errors.py`. Codes are stable; the sentences that come
with them are for people and may change.
"""

SECTIONS = {
    ErrorCode.MESSAGE_EMPTY: (
        "Dead letters",
        "The record goes to the dead-letter topic as it came, with the code in the header `dlq.code`.",
    ),
    ErrorCode.OBJECT_NOT_FOUND: (
        "Failed results",
        "The request is answered: `status` is `failed`, and `error.code` of the result says why.",
    ),
    ErrorCode.ROW_REFUSED: (
        "Sink",
        "The result goes to the dead-letter topic with this code; the rows around it are stored.",
    ),
    ErrorCode.SETTING_INVALID: (
        "Commands and processes",
        "The command prints `error [code]: …` on standard error and ends with a documented exit code.",
    ),
}
"""Where codes appear, by the first code of each part of the list."""


def documents() -> dict[Path, str]:
    """The content of every generated file, by its path."""
    request = json_schema(Request, REQUESTS)
    result = json_schema(Result, RESULTS)
    return {
        HERE / "json" / "request.json": _json(request),
        HERE / "json" / "result.json": _json(result),
        HERE / "asyncapi.yaml": asyncapi.document(),
        ROOT / "docs" / "errors.md": errors_page(),
    }


def json_schema(message: type[msgspec.Struct], examples: Sequence[Request | Result]) -> dict[str, Any]:
    """JSON Schema, draft-07, of a message, with examples."""
    _, components = msgspec.json.schema_components([message], ref_template="#/definitions/{name}")
    definitions = {name: _as_draft_07(schema) for name, schema in components.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **definitions.pop(message.__name__),
        "examples": [json.loads(encode(example)) for example in examples],
        "definitions": dict(sorted(definitions.items())),
    }


def errors_page() -> str:
    """All codes as a Markdown page."""
    lines = [ERRORS_HEAD]
    for code in ErrorCode:
        if code in SECTIONS:
            title, where = SECTIONS[code]
            lines += [f"## {title}\n\n{where}\n\n| code | meaning |\n|---|---|"]
        lines.append(f"| `{code}` | {code.description} |")
        if _ends_section(code):
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _ends_section(code: ErrorCode) -> bool:
    codes = list(ErrorCode)
    following = codes.index(code) + 1
    return following < len(codes) and codes[following] in SECTIONS


def _as_draft_07(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_as_draft_07(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: _as_draft_07(value) for name, value in schema.items()}
    if "description" in converted and isinstance(converted["description"], str):
        converted["description"] = " ".join(inspect.cleandoc(converted["description"]).split())
    if "$ref" in converted and len(converted) > 1:
        # Draft-07 ignores whatever stands beside `$ref`.
        converted["allOf"] = [{"$ref": converted.pop("$ref")}]
    return converted


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes every file."""
    for path, content in documents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
