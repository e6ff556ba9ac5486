"""Results as COPY text."""

from datetime import UTC, datetime

import pytest

from consumers.sink.rows import RESULT_COLUMNS, copy_detections, copy_results, sink_statements
from schemas.messages import AnalyzedImage, Box, Detection, Failure, Label
from tests.sink_support import make_result


def fields(line: bytes) -> dict[str, str]:
    ordinal, *values = line.decode().rstrip("\n").split("\t")
    return {"ordinal": ordinal, **dict(zip(RESULT_COLUMNS, values, strict=True))}


def test_each_result_is_a_line_with_its_ordinal() -> None:
    first, second = copy_results([make_result(7), make_result(8)]).splitlines()
    assert (fields(first)["ordinal"], fields(first)["source_offset"]) == ("0", "7")
    assert (fields(second)["ordinal"], fields(second)["source_offset"]) == ("1", "8")


def test_null_and_empty_text_differ() -> None:
    image = AnalyzedImage(bucket="b", key="k", version_id="", etag=None)
    row = fields(copy_results([make_result(image=image)]))
    assert (row["image_version_id"], row["image_etag"]) == ("", r"\N")


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("a\tb", r"a\tb"),
        ("a\nb\r", r"a\nb\r"),
        (r"\N", r"\\N"),
        (r"\.", r"\\."),
        ("æ☃𝄞", "æ☃𝄞"),
    ],
)
def test_what_copy_would_misread_is_escaped(text: str, copied: str) -> None:
    failed = make_result(status="failed", error=Failure("module_error", text), detections=())
    row = fields(copy_results([failed]))
    assert row["error_message"] == copied
    assert row["detection_count"] == "0"


def test_times_carry_their_offset() -> None:
    moment = datetime(1, 1, 1, tzinfo=UTC)
    assert fields(copy_results([make_result(requested_at=moment)]))["requested_at"].endswith("+00:00")


def test_a_detection_shows_its_best_label_and_keeps_all() -> None:
    labels = (Label("cat", 0.2), Label("dog", 0.7), Label("fox", 0.7))
    detections = (Detection(Box(1.5, 2.0, 3.0, 4.0), labels), Detection(Box(0.1, 0.0, 0.0, 0.0), ()))
    lines = copy_detections([make_result(), make_result(1, detections=detections)]).decode().splitlines()
    assert lines[1].split("\t")[:8] == ["1", "0", "dog", "0.7", "1.5", "2.0", "3.0", "4.0"]
    assert lines[1].endswith(
        '[{"label":"cat","score":0.2},{"label":"dog","score":0.7},{"label":"fox","score":0.7}]'
    )
    assert lines[2].split("\t") == ["1", "1", r"\N", r"\N", "0.1", "0.0", "0.0", "0.0", "[]"]


def test_a_lone_surrogate_is_an_error_that_the_store_knows() -> None:
    with pytest.raises(UnicodeEncodeError):
        copy_results([make_result(request_id="\ud800")])


def test_every_statement_has_its_columns_filled_in() -> None:
    assert {"copy_results", "copy_detections", "merge", "lock_offsets"} <= sink_statements().keys()
