"""Answers to requests of our own: their results, and dead letters of what the service refused."""

from collections.abc import Container
from typing import TypeAlias

import msgspec
from confluent_kafka import Message

from infra.kafka import headers_of
from infra.settings import KafkaSettings
from producers.reader import Offsets, TopicReader
from producers.results import read_result
from schemas.dead_letters import ANSWERED_TOO, DeadLetterReason
from schemas.messages import Result


class Refusal(msgspec.Struct, frozen=True):
    """A request that became a dead letter, with the code and the sentence of its headers."""

    request_id: str
    code: str
    message: str


Answer: TypeAlias = Result | Refusal


class AnswerReader:
    """Reads the results and dead-letter topics for the answers to some requests.

    Other people's records are passed over by their key, without decoding them; so are dead letters of
    results, which have a request's key as well. A context manager, for one thread at a time.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._images_topic = settings.images_topic
        self._dead_letters_topic = settings.dead_letters_topic
        self._reader = TopicReader(settings, (settings.results_topic, settings.dead_letters_topic))

    def open(self, offsets: Offsets | None = None) -> "AnswerReader":
        """Fixes where to begin, at the end where no offsets are given; raises as `TopicReader.open`."""
        self._reader.open("end" if offsets is None else offsets)
        return self

    @property
    def start(self) -> Offsets:
        """Where reading began."""
        return self._reader.start

    def poll(self, timeout_s: float, request_ids: Container[str]) -> Answer | None:
        """The next answer to one of the requests, or None where the next record is none or none came."""
        message = self._reader.poll(timeout_s)
        if message is None:
            return None
        request_id = (message.key() or b"").decode(errors="replace")
        if request_id not in request_ids:
            return None
        if message.topic() == self._dead_letters_topic:
            return self._refusal(request_id, message)
        return read_result(message)

    def close(self) -> None:
        """Ends reading."""
        self._reader.close()

    def __enter__(self) -> "AnswerReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refusal(self, request_id: str, message: Message) -> Refusal | None:
        reason = DeadLetterReason.from_headers(headers_of(message))
        if reason.topic != self._images_topic or reason.code in ANSWERED_TOO:
            return None
        return Refusal(request_id, reason.code or "", reason.message or "no reason is given")
