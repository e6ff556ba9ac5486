"""`/api/v1/stats`: how much, how fast, what fails, and what waits."""

from collections import defaultdict
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway.openapi import json_answer, json_of, problems
from gateway.services import Given
from infra.kafka import make_admin
from infra.postgres import Cursor
from infra.settings import KafkaSettings
from producers.reader import Offsets, TopicReader
from schemas.errors import AnalysisError, ErrorCode

router = APIRouter()

ANSWER_S = 5.0

_MODULES = """
SELECT module, count(*) FILTER (WHERE status = 'ok'), count(*) FILTER (WHERE status = 'failed'),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_ms)
FROM results WHERE request_timestamp >= now() - make_interval(mins => %s) GROUP BY module ORDER BY module
"""
_ERRORS = """
SELECT module, error_code, count(*) FROM results
WHERE request_timestamp >= now() - make_interval(mins => %s) AND status = 'failed'
GROUP BY module, error_code ORDER BY count(*) DESC
"""
_LABELS = """
SELECT label, count(*) FROM detections
WHERE request_timestamp >= now() - make_interval(mins => %s) AND label IS NOT NULL
GROUP BY label ORDER BY count(*) DESC, label LIMIT 50
"""


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from a request's record to its answer; null where nothing was answered."""

    p50: float | None
    p95: float | None
    p99: float | None


class ModuleStats(msgspec.Struct, frozen=True):
    """What one module answered in the time asked for."""

    module: str
    ok: int
    failed: int
    per_second: float
    total_ms: Latency
    errors: dict[str, int]
    """Failures by code."""
    lag: int | None
    """Requests that wait for it, in records; null while Kafka does not tell."""


class Stats(msgspec.Struct, frozen=True):
    """The service in numbers."""

    minutes: int
    modules: list[ModuleStats]
    labels: dict[str, int]
    """How often each was the best label of a detection; the fifty most frequent."""


@router.get(
    "/stats",
    response_class=Response,
    responses={
        200: json_of(Stats, "Of requests of the last minutes, as far as they are stored."),
        **problems(ErrorCode.USAGE, ErrorCode.DATABASE_UNAVAILABLE),
    },
)
async def stats(
    services: Given,
    minutes: Annotated[int, Query(ge=1, le=1440, description="How far to look back.")] = 5,
) -> Response:
    """Rates, latencies, failures and lag of each module, and labels."""
    found = await services.database.read(lambda cursor: _read(cursor, minutes))
    modules, errors, labels = found
    lags = await anyio.to_thread.run_sync(_lags, services.kafka, [row[0] for row in modules])
    answer = Stats(
        minutes,
        [
            ModuleStats(
                module=name,
                ok=ok,
                failed=failed,
                per_second=round((ok + failed) / (minutes * 60), 3),
                total_ms=Latency(*(percentiles or (None, None, None))),
                errors=errors[name],
                lag=lags.get(name),
            )
            for name, ok, failed, percentiles in modules
        ],
        labels,
    )
    return json_answer(answer)


def _read(cursor: Cursor, minutes: int) -> tuple[list[Any], dict[str, dict[str, int]], dict[str, int]]:
    cursor.execute(_MODULES, (minutes,))
    modules = list(cursor.fetchall())
    errors: defaultdict[str, dict[str, int]] = defaultdict(dict)
    cursor.execute(_ERRORS, (minutes,))
    for module, code, count in cursor.fetchall():
        errors[module][code] = count
    cursor.execute(_LABELS, (minutes,))
    return modules, errors, dict(cursor.fetchall())


def _lags(kafka: KafkaSettings, modules: list[str]) -> dict[str, int]:
    """Records that each module's group has not committed; nothing while Kafka is away."""
    reader = TopicReader(kafka, (kafka.images_topic,))
    try:
        reader.open("end")
        admin = make_admin(kafka)
        return {module: _lag(admin, f"analyzer.{module}", reader.start) for module in modules}
    except (KafkaException, AnalysisError, TimeoutError):
        return {}
    finally:
        reader.close()


def _lag(admin: AdminClient, group: str, ends: Offsets) -> int:
    partitions = [TopicPartition(*where) for where in ends]
    asked = [ConsumerGroupTopicPartitions(group, partitions)]
    (future,) = admin.list_consumer_group_offsets(asked, request_timeout=ANSWER_S).values()
    committed = future.result(ANSWER_S + 1).topic_partitions
    return sum(ends[one.topic, one.partition] - max(0, one.offset) for one in committed)
