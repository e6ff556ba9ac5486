import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.codec import decode_request, decode_result, encode
from schemas.documents import HERE, ROOT, SECTIONS, documents
from schemas.errors import ErrorCode
from schemas.examples import RESULTS
from schemas.headers import result_headers

REQUEST_SCHEMA = json.loads((HERE / "json" / "request.json").read_text(encoding="utf-8"))
RESULT_SCHEMA = json.loads((HERE / "json" / "result.json").read_text(encoding="utf-8"))
ASYNCAPI = yaml.safe_load((HERE / "asyncapi.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_committed_documents_are_the_generated_ones(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == documents()[path], "run `python -m schemas.documents`"


@pytest.mark.parametrize("schema", [REQUEST_SCHEMA, RESULT_SCHEMA], ids=["request", "result"])
def test_schemas_are_draft_07_with_titles(schema: dict[str, object]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["title"]
    text = json.dumps(schema)
    assert "$defs" not in text
    assert "unevaluated" not in text


def test_schema_examples_decode_and_keep_their_schema() -> None:
    for example in REQUEST_SCHEMA["examples"]:
        jsonschema.validate(example, REQUEST_SCHEMA, jsonschema.Draft7Validator)
        decode_request(json.dumps(example).encode())
    for example in RESULT_SCHEMA["examples"]:
        jsonschema.validate(example, RESULT_SCHEMA, jsonschema.Draft7Validator)
        decode_result(json.dumps(example).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"request_id": ""},
        {"request_id": "a\n"},
        {"request_id": "x" * 129},
        {"image": {"bucket": "images"}},
        {"modules": "faces"},
        {"attributes": {"a": 1}},
    ],
    ids=str,
)
def test_the_request_schema_refuses_what_the_service_refuses(change: dict[str, object]) -> None:
    broken = {**REQUEST_SCHEMA["examples"][0], **change}
    assert list(jsonschema.Draft7Validator(REQUEST_SCHEMA).iter_errors(broken))


def test_asyncapi_names_every_message_and_its_examples_decode() -> None:
    assert ASYNCAPI["asyncapi"].startswith("3.")
    messages = ASYNCAPI["components"]["messages"]
    for channel in ASYNCAPI["channels"].values():
        for name, reference in channel["messages"].items():
            assert reference == {"$ref": f"#/components/messages/{name}"}
            assert name in messages
    for example in messages["request"]["examples"]:
        decode_request(json.dumps(example["payload"]).encode())
    for example in messages["result"]["examples"]:
        decode_result(json.dumps(example["payload"]).encode())


def test_asyncapi_points_at_the_published_schemas() -> None:
    for name, published in (("request", REQUEST_SCHEMA), ("result", RESULT_SCHEMA)):
        reference = ASYNCAPI["components"]["messages"][name]["payload"]["schema"]["$ref"]
        assert json.loads((HERE / reference).read_text(encoding="utf-8")) == published


def test_asyncapi_lists_the_headers_that_results_have() -> None:
    listed = set(ASYNCAPI["components"]["messages"]["result"]["headers"]["properties"])
    assert {name for name, _ in result_headers(RESULTS[0], b"trace")} == listed


def test_the_page_of_codes_lists_each_once_with_a_meaning() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for code in ErrorCode:
        assert page.count(f"| `{code}` |") == 1
        assert code.description.endswith(".")
    assert all(f"## {title}" in page for title, _ in SECTIONS.values())


def test_results_validate_as_published() -> None:
    for result in RESULTS:
        jsonschema.validate(json.loads(encode(result)), RESULT_SCHEMA, jsonschema.Draft7Validator)
