"""The AsyncAPI document: topics, who writes and who reads them, keys, headers and bodies."""

import json
from collections.abc import Sequence
from typing import Any

from schemas import headers
from schemas.codec import encode
from schemas.examples import DEAD_LETTER_HEADERS, REQUESTS, RESULTS
from schemas.messages import VERSION, Request, Result

BINDINGS = {"bindingVersion": "0.5.0"}
TEXT = {"type": "string"}


def document() -> str:
    """The document as YAML."""
    import yaml

    without_shared_parts = json.loads(json.dumps(_document()))  # which YAML would show as anchors
    return yaml.safe_dump(without_shared_parts, sort_keys=False, allow_unicode=True, width=110)


def _document() -> dict[str, Any]:
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Image analysis",
            "version": f"{VERSION}.0.0",
            "description": "Requests to analyze images come in, results and dead letters go out. "
            "Topic names are the defaults of the KAFKA_*_TOPIC settings.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrapServers}",
                "protocol": "kafka",
                "variables": {"bootstrapServers": {"default": "127.0.0.1:29092"}},
                "bindings": {"kafka": BINDINGS},
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


def _channels() -> dict[str, Any]:
    return {
        "images": _channel("analysis.images", "What shall be analyzed.", "request", "s3Events", "reference"),
        "results": _channel("analysis.results", "One result per request and module.", "result"),
        "deadLetters": _channel(
            "analysis.dead-letters", "Records that could not be answered, with the reason.", "deadLetter"
        ),
    }


def _channel(topic: str, description: str, *messages: str) -> dict[str, Any]:
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": BINDINGS},
    }


def _operations() -> dict[str, Any]:
    group = {"type": "string", "pattern": "^analyzer[.]", "description": "`analyzer.<module>`"}
    return {
        "receiveRequests": {
            "action": "receive",
            "channel": {"$ref": "#/channels/images"},
            "summary": "Each module reads every record, as a consumer group of its own.",
            "bindings": {"kafka": {"groupId": group, **BINDINGS}},
        },
        "sendResults": {
            "action": "send",
            "channel": {"$ref": "#/channels/results"},
            "summary": "Answers, in the order of the requests of each partition. Read them with "
            "`isolation.level=read_committed`: then each request has exactly one per module.",
        },
        "sendDeadLetters": {
            "action": "send",
            "channel": {"$ref": "#/channels/deadLetters"},
            "summary": "What nobody could answer. The analyzer sends it in the transaction of the results "
            "around it, the sink before it commits the offset that passes it.",
        },
    }


def _messages() -> dict[str, Any]:
    return {
        "request": _message(Request, "request.json", REQUESTS)
        | {"correlationId": {"location": "$message.payload#/request_id"}},
        "s3Events": {
            "title": "S3 events",
            "summary": "Bucket notifications of Amazon S3 (also by EventBridge or SNS), MinIO, RustFS, Ceph "
            "and VersityGW; each new object becomes a request. CloudEvents around these, or around a "
            "request, are read in both Kafka modes.",
            "payload": {"type": ["object", "array"]},
            "bindings": {"kafka": BINDINGS},
        },
        "reference": {
            "title": "Reference",
            "summary": "The shortest request: `s3://bucket/key`, the key as plain text.",
            "contentType": "text/plain",
            "payload": {"type": "string", "pattern": "^[sS]3://[^/]+/."},
            "bindings": {"kafka": BINDINGS},
        },
        "result": _message(Result, "result.json", RESULTS)
        | {
            "correlationId": {"location": "$message.payload#/request_id"},
            "headers": _headers(headers.STATUS, headers.MODULE, headers.REQUEST_ID, headers.TRACEPARENT),
        },
        "deadLetter": {
            "title": "Dead letter",
            "summary": "The record as it came (key, value and headers), and the reason in further headers.",
            "headers": _headers(*(name for name, _ in DEAD_LETTER_HEADERS)),
            "payload": {},
            "bindings": {"kafka": BINDINGS},
            "examples": [
                {
                    "headers": {name: value.decode() for name, value in DEAD_LETTER_HEADERS if value},
                    "payload": "s3://secrets/plans.png",
                }
            ],
        },
    }


def _message(
    message: type[Request | Result], schema_file: str, examples: Sequence[Request | Result]
) -> dict[str, Any]:
    key = {"type": "string", "description": "The request id."}
    return {
        "title": message.__name__,
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": {"$ref": f"./json/{schema_file}"},
        },
        "bindings": {"kafka": {"key": key, **BINDINGS}},
        "examples": [{"payload": json.loads(encode(example))} for example in examples],
    }


def _headers(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(names, TEXT)}
