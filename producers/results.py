"""The results topic as an iterator of results."""

import logging
from collections.abc import Iterator

import msgspec
from confluent_kafka import Message

from producers.reader import Offsets, Start, TopicReader
from schemas.codec import DecodeError, decode_result
from schemas.messages import Result, Status

logger = logging.getLogger(__name__)

_POLL_S = 0.2


class ResultFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which results to show: those that fit everything that is given."""

    module: str | None = None
    status: Status | None = None
    label: str | None = None
    min_score: float = 0.0

    def matches(self, result: Result) -> bool:
        """Whether a result fits; a label and a score must meet in one label of one detection."""
        if self.module not in (None, result.module.name) or self.status not in (None, result.status):
            return False
        if self.label is None and not self.min_score:
            return True
        return any(
            label.score >= self.min_score and self.label in (None, label.label)
            for detection in result.detections
            for label in detection.labels
        )


class ResultStream(Iterator[Result]):
    """Results as they are committed, in order per partition; a context manager, for one thread at a time.

    A record that is no result is skipped with a warning that names its position.
    """

    def __init__(self, reader: TopicReader, only: ResultFilter, *, follow: bool) -> None:
        self._reader = reader
        self._only = only
        self._follow = follow

    def open(self, start: Start | Offsets) -> "ResultStream":
        """Fixes where to begin; raises as `TopicReader.open`."""
        self._reader.open(start)
        return self

    def __next__(self) -> Result:
        while self._follow or not self._reader.caught_up:
            result = self.poll(_POLL_S)
            if result is not None:
                return result
        raise StopIteration

    def poll(self, timeout_s: float) -> Result | None:
        """The next result, or None where the next record is none that fits or none came in time."""
        message = self._reader.poll(timeout_s)
        result = None if message is None else read_result(message)
        return result if result is not None and self._only.matches(result) else None

    def close(self) -> None:
        """Ends reading."""
        self._reader.close()

    def __enter__(self) -> "ResultStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_result(message: Message) -> Result | None:
    """The result in a record; None, with a warning, where there is none."""
    try:
        return decode_result(message.value() or b"")
    except DecodeError as error:
        logger.warning(
            "skipped %s[%s] at offset %s, which is no result: %s",
            message.topic(),
            message.partition(),
            message.offset(),
            error.message,
        )
        return None
