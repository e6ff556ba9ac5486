"""What people read about results and uploads."""

from datetime import UTC, datetime

import msgspec

from producers.output import UploadRecord, describe_detections, printable, result_line, upload_line
from schemas.messages import (
    AnalyzedImage,
    Box,
    Detection,
    Failure,
    Label,
    ModuleIdentity,
    Result,
    SourcePosition,
    Timings,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BOX = Box(0, 0, 1, 1)
RESULT = Result(
    request_id="r",
    status="ok",
    module=ModuleIdentity("faces", "1"),
    image=AnalyzedImage(bucket="images", key="a.jpg"),
    detections=(Detection(BOX, (Label("face", 0.987), Label("cat", 0.1))),),
    source=SourcePosition("id", "images", 0, 0, 0, NOW),
    timings_ms=Timings(total=12.3),
    analyzed_at=NOW,
)


def test_a_result_names_image_module_and_labels() -> None:
    assert result_line(RESULT).endswith("s3://images/a.jpg  faces: face 0.99 in 12 ms")
    named = msgspec.structs.replace(RESULT, attributes={"file": "photos/a.jpg"})
    assert "photos/a.jpg" in result_line(named)


def test_a_failed_result_says_why() -> None:
    failed = msgspec.structs.replace(
        RESULT, status="failed", detections=(), error=Failure("image_corrupt", "the image is truncated")
    )
    assert "image_corrupt: the image is truncated" in result_line(failed)


def test_detections_are_summed_up() -> None:
    assert describe_detections(()) == "nothing found"
    assert describe_detections((Detection(BOX, ()),)) == "no label 0.00"
    same = tuple(Detection(BOX, (Label("face", score),)) for score in (0.9, 0.95, 0.8))
    assert describe_detections(same) == "3 x face 0.80 to 0.95"
    many = tuple(Detection(BOX, (Label(f"l{number}", 0.5),)) for number in range(9))
    assert describe_detections(many).endswith("l5 0.50 and 3 other labels")


def test_nothing_from_outside_reaches_the_terminal_as_a_command() -> None:
    assert printable("a\x1b[2Jb\n\u202ec") == "a\\x1b[2Jb\\n\\u202ec"
    nasty = msgspec.structs.replace(
        RESULT,
        image=AnalyzedImage(bucket="images", key="\x1b]0;x\x07"),
        detections=(Detection(BOX, (Label("\x1b[31m", 1.0),)),),
    )
    assert "\x1b" not in result_line(nasty)
    assert "\x1b" not in upload_line(UploadRecord(path="\x1b[2J", status="ok", result=nasty))


def test_an_upload_names_its_object_or_its_failure() -> None:
    sent = UploadRecord(path="a.jpg", status="sent", request_id="r", bucket="uploads", key="k")
    assert upload_line(sent) == "a.jpg  s3://uploads/k"
    broken = UploadRecord(path="a.jpg", status="not_sent", error=Failure("input_not_found", "gone"))
    assert upload_line(broken) == "a.jpg  input_not_found: gone"
