"""What becomes of records that were published again."""

from datetime import UTC, datetime
from typing import Any, cast

from consumers.analyzer.intake import Intake
from consumers.analyzer.window import PartitionWindow, Record
from schemas.dead_letters import DeadLetterReason, replay_headers
from schemas.messages import RecordPosition
from tests.service import request

FIRST = RecordPosition("topic-id", "images", 3, 40, datetime(2026, 1, 1, tzinfo=UTC))
S3_EVENTS = b"""{"Records": [
    {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "uploads"}, "object": {"key": "a.jpg"}}},
    {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "uploads"}, "object": {"key": "b.jpg"}}}
]}"""


class Message:
    """A record as the client hands it out."""

    def __init__(self, value: bytes, headers: Any, offset: int = 900) -> None:
        self._value, self._headers, self._offset = value, headers, offset

    def topic(self) -> str:
        return "images"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_790_000_000_000

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return self._value

    def headers(self) -> Any:
        return self._headers


def read(value: bytes, component: str | None, index: int | None = None, module: str = "faces") -> Record:
    reason = DeadLetterReason.from_headers([])
    reason = type(reason)(**{**_fields(reason), "component": component, "index": index})
    message = Message(value, replay_headers([], FIRST, reason, 1))
    return Intake(module, "topic-id", ["uploads"]).read(cast(Any, message), PartitionWindow("images", 3))


def _fields(reason: DeadLetterReason) -> dict[str, Any]:
    return {name: getattr(reason, name) for name in reason.__struct_fields__}


def test_a_record_that_was_published_again_keeps_its_identity_and_is_committed_where_it_lies() -> None:
    record = read(request("r", "key"), "analyzer.faces")
    (task,) = record.tasks
    assert record.position.offset == 900
    assert task.position == (900, 0)
    assert (task.source.offset, task.source.timestamp) == (FIRST.offset, FIRST.timestamp)


def test_a_request_without_an_id_gets_the_same_one_again() -> None:
    plain = Message(b"s3://uploads/a.jpg", [], FIRST.offset)
    intake = Intake("faces", "topic-id", ["uploads"])
    (first,) = intake.read(cast(Any, plain), PartitionWindow("images", 3)).tasks
    (again,) = read(b"s3://uploads/a.jpg", "analyzer.faces").tasks
    assert again.source.index == first.source.index
    assert again.source.offset == first.source.offset


def test_what_one_module_gave_up_is_not_answered_by_another_again() -> None:
    assert read(request("r", "key"), "analyzer.faces", module="shapes").tasks == ()
    broken = read(b"no request", "analyzer.faces", module="shapes")
    assert broken.rejection is None
    assert broken.done
    assert read(b"no request", "analyzer.faces").rejection is not None


def test_letters_of_other_systems_are_for_everybody() -> None:
    assert len(read(request("r", "key"), None).tasks) == 1


def test_of_a_record_with_several_images_only_the_one_that_is_meant_is_answered_again() -> None:
    assert [task.source.index for task in read(S3_EVENTS, "analyzer.faces", 1).tasks] == [1]
    assert [task.source.index for task in read(S3_EVENTS, "analyzer.faces").tasks] == [0, 1]
