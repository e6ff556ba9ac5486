"""Results that cannot become rows, onto the dead-letter topic."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum, IntEnum, auto
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumers.sink.batch import Refused
from consumers.sink.errors import DeadLettersUndelivered
from infra.kafka import make_producer, producer_config
from infra.settings import KafkaSettings
from schemas.dead_letters import TRUNCATED_MARK, dead_letter_headers
from schemas.headers import Headers
from schemas.messages import RecordPosition

logger = logging.getLogger(__name__)

COMPONENT = "sink"
ACKNOWLEDGE_S = 5.0
"""How long one try waits for the broker; the next goes on waiting for the same records. PostgreSQL ends the
transaction that waits for it after 10 s (`sink.sql`)."""

_CONFIG = {
    # The client's own limit, before compression: what the topic takes is for the broker to say.
    "message.max.bytes": 16 * 2**20,
    # The broker refuses a whole batch for one large record in it.
    "batch.num.messages": 1,
    "linger.ms": 0,
}


class _State(Enum):
    SENT = auto()
    DELIVERED = auto()
    TOO_LARGE = auto()


class _Form(IntEnum):
    """What is left of a record that the dead-letter topic takes only in part."""

    WHOLE = 0
    WITHOUT_VALUE = 1
    REASON_ONLY = 2


class DeadLetters:
    """An idempotent producer that remembers what it sent for the batch at hand.

    So a batch that is tried again, because PostgreSQL or the broker was away, buries nothing twice. Only a
    sink that dies between the acknowledgement and its commit leaves a second copy, at the same position.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self._states: dict[RecordPosition, _State] = {}
        self._forms: dict[RecordPosition, _Form] = {}
        self._failure = ""

    def bury(self, refused: Sequence[Refused]) -> None:
        """Delivers each record with the reason in its headers, if that was not done before.

        Raises:
            DeadLettersUndelivered: not all are acknowledged; to be tried again.
        """
        for item in refused:
            if self._states.get(item.record.position) in (None, _State.TOO_LARGE):
                self._send(item)
        if self._producer is not None:
            self._producer.flush(ACKNOWLEDGE_S)
        states = [self._states.get(item.record.position) for item in refused]
        missing = len(states) - states.count(_State.DELIVERED)
        if missing:
            raise DeadLettersUndelivered(missing, self._failure or "no answer yet")

    def forget(self) -> None:
        """The batch is committed or dropped: what was sent for it matters no more."""
        self._states.clear()
        self._forms.clear()

    def close(self) -> None:
        """Drops the producer without waiting: whatever is undelivered belongs to no committed batch."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def _send(self, refused: Refused) -> None:
        record, position = refused.record, refused.record.position
        form = self._forms.get(position, _Form.WHOLE)
        _log(refused, form)
        self._states[position] = _State.SENT
        try:
            self._connected().produce(
                self._settings.dead_letters_topic,
                key=record.key if form < _Form.REASON_ONLY else None,
                value=record.value if form < _Form.WITHOUT_VALUE else None,
                headers=_headers(refused, form),
                on_delivery=partial(self._on_delivery, position),
            )
        except KafkaException as error:
            self._fail(position, error.args[0])

    def _on_delivery(self, position: RecordPosition, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._states[position] = _State.DELIVERED
        else:
            self._fail(position, error)

    def _fail(self, position: RecordPosition, error: KafkaError) -> None:
        self._failure = error.str()
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._states[position] = _State.TOO_LARGE
            self._forms[position] = _Form(min(self._forms.get(position, 0) + 1, _Form.REASON_ONLY))
            return
        self._states.pop(position, None)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.close()

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = make_producer({**producer_config(self._settings), **_CONFIG})
        return self._producer


def _log(refused: Refused, form: _Form) -> None:
    position = refused.record.position
    logger.warning(
        "dead letter: %s/%d@%d: %s: %s%s",
        position.topic,
        position.partition,
        position.offset,
        refused.code,
        refused.message,
        f" (too large for the topic: sent {form.name.lower()})" if form else "",
    )


def _headers(refused: Refused, form: _Form) -> list[tuple[str, str | bytes | None]]:
    position, now = refused.record.position, datetime.now(UTC)
    original: Headers = refused.record.headers if form < _Form.REASON_ONLY else ()
    cut = [] if form == _Form.WHOLE else [TRUNCATED_MARK]
    return [*dead_letter_headers(original, refused.code, refused.message, position, 1, now, COMPONENT), *cut]
