"""Which errors a reader waits out, and which end it."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from infra.settings import KafkaSettings
from producers.reader import TopicReader


class Failing:
    """A consumer whose every poll returns an error."""

    def __init__(self, code: int) -> None:
        self._code = code

    def poll(self, _: float) -> Message:
        made: Any = Message
        message: Message = made(topic="results", error=KafkaError(self._code))
        return message


def reader(code: int) -> TopicReader:
    made: Any = TopicReader(KafkaSettings(), ("results",))
    made._consumer = Failing(code)
    opened: TopicReader = made
    return opened


@pytest.mark.parametrize(
    "code",
    [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR],
)
def test_outages_are_waited_out(code: int) -> None:
    assert reader(code).poll(0) is None


@pytest.mark.parametrize(
    "code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._FATAL]
)
def test_what_waiting_does_not_help_ends_it(code: int) -> None:
    with pytest.raises(KafkaException):
        reader(code).poll(0)
