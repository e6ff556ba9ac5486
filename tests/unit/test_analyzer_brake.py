"""When a module that fails is stopped, and what never counts."""

from datetime import UTC, datetime

import pytest

from consumers.analyzer.brake import LEAST, LOOKED_AT, Brake, TooManyFailures
from consumers.analyzer.window import Found, PartitionWindow, Record, Task
from schemas.errors import ErrorCode
from schemas.messages import (
    AnalyzedImage,
    Failure,
    ImageReference,
    ModuleIdentity,
    RecordPosition,
    Request,
    Result,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def answered(code: ErrorCode | None) -> Record:
    position = RecordPosition("id", "t", 0, 0, NOW)
    request = Request(version=1, request_id="r", image=ImageReference("b", "k"))
    task = Task(request, None, position.at(0), PartitionWindow("t", 0), Found("k"))
    task.answer = Result(
        request_id="r",
        status="failed" if code else "ok",
        module=ModuleIdentity("m", "1"),
        image=AnalyzedImage(bucket="b", key="k"),
        error=Failure(code, "wrong weights") if code else None,
        source=task.source,
        analyzed_at=NOW,
    )
    return Record(position, None, b"", (), (task,))


BAD = ErrorCode.MODULE_ERROR


def test_failures_in_a_row_are_published_up_to_the_limit() -> None:
    brake = Brake(3, 1.0)
    brake.check([answered(BAD), answered(BAD), answered(None)])
    brake.check([answered(BAD), answered(BAD), answered(BAD)])
    with pytest.raises(TooManyFailures, match=r"4 answers in a row.*module_error: wrong weights"):
        brake.check([answered(BAD)])


def test_a_share_of_failures_too_large_for_the_images_to_be_at_fault() -> None:
    brake = Brake(0, 0.5)
    for _ in range(LEAST // 2 - 1):
        brake.check([answered(BAD), answered(None)])
    brake.check([answered(BAD), answered(None), answered(None)])
    with pytest.raises(TooManyFailures, match="% of the last"):
        brake.check([answered(BAD) for _ in range(3)])


def test_few_answers_say_nothing_about_a_share() -> None:
    Brake(0, 0.1).check([answered(BAD) for _ in range(LEAST - 1)])


def test_what_is_long_past_no_longer_counts() -> None:
    brake = Brake(0, 0.5)
    brake.check([answered(None) for _ in range(LEAST)])
    brake.check([answered(BAD) for _ in range(LEAST)])
    brake.check([answered(None) for _ in range(LOOKED_AT)])
    brake.check([answered(BAD) for _ in range(LOOKED_AT // 2)])
    with pytest.raises(TooManyFailures):
        brake.check([answered(BAD)])


@pytest.mark.parametrize(
    "code", [ErrorCode.OBJECT_NOT_FOUND, ErrorCode.IMAGE_CORRUPT, ErrorCode.OBJECT_ACCESS_DENIED]
)
def test_what_the_publisher_did_wrong_never_stops_anybody(code: ErrorCode) -> None:
    Brake(1, 0.0).check([answered(code) for _ in range(2 * LOOKED_AT)])


def test_a_transaction_that_is_tried_again_is_not_counted_again() -> None:
    brake = Brake(3, 1.0)
    records = [answered(BAD), answered(BAD)]
    for _ in range(5):
        brake.check(records)


def test_both_limits_can_be_off() -> None:
    Brake(0, 1.0).check([answered(BAD) for _ in range(2 * LOOKED_AT)])
