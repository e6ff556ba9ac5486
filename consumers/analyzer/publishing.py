"""Stage 4: results, dead letters and offsets, in one Kafka transaction."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from consumers.analyzer.account import Account
from consumers.analyzer.window import PartitionKey, Record, Task
from infra.kafka import MAX_DEAD_LETTER_BYTES, Config, log_client_error, make_producer
from schemas.dead_letters import TRUNCATED_MARK, dead_letter_headers, replay_only
from schemas.errors import AnalysisError, ErrorCode
from schemas.headers import TRACEPARENT, Headers, last_header, result_headers

logger = logging.getLogger(__name__)

API_TIMEOUT_S = 10.0
ABORT_TIMEOUT_S = 5.0
"""Shorter: a new producer aborts as well, and was seen to succeed where an abort hung."""
INIT_TIMEOUT_S = 5.0
INIT_ATTEMPTS = 6
MAX_TRACEPARENT_BYTES = 128
FRAMING_BYTES = 1024
HEADER_FRAMING_BYTES = 16
FENCED_LIMIT = 6
FENCED_WINDOW_S = 120.0
FENCED_PAUSE_S = 0.5
"""After the first fencing, and twice as long after each further one. Who takes an id over has its
open transaction aborted, and asks again: without a pause it finds the next one, and fences once more."""

_REFUSED = frozenset(
    {
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_TRANSACTION_TIMEOUT,
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
    }
)
"""Answers that waiting does not change."""


class ProducerFenced(AnalysisError):
    """Another live process keeps taking this one's transactional id."""

    def __init__(self, transactional_id: str) -> None:
        super().__init__(
            ErrorCode.PRODUCER_FENCED,
            f"another process uses the transactional id {transactional_id!r}: "
            "give each machine an ANALYZER_INSTANCE_ID of its own",
        )


class Stopped(Exception):
    """The worker is told to stop while it waits for Kafka, or for the other workers."""


class Publisher:
    """The transactional producer of one worker; used from one thread only.

    When the outcome of a transaction is in doubt the producer is thrown away: a new one with the same id
    fences it, and the broker then finishes or aborts what was open. The caller asks the broker which.
    """

    def __init__(
        self,
        config: Config,
        results_topic: str,
        results_partitions: int,
        dead_letters_topic: str,
        component: str,
        account: Account,
        stopping: threading.Event,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.published: Counter[str] = Counter()
        self._config = config
        self._results_topic = results_topic
        self._results_partitions = results_partitions
        self._dead_letters_topic = dead_letters_topic
        self._component = component
        self._beat = beat
        self._brokers_lost = False
        self._account = account
        self._stopping = stopping
        self._producer: Producer | None = None
        self._fenced_at: deque[float] = deque()

    def start(self) -> None:
        """Takes over the transactional id: a former holder is fenced and its open transaction ended.

        Waits for as long as Kafka is away.

        Raises:
            Stopped: the worker was told to stop meanwhile.
        """
        while True:
            self._beat()
            self._brokers_lost = False
            producer = make_producer({**self._config, "error_cb": self._on_error})
            try:
                self._init(producer)
            except (KafkaException, SystemError) as error:
                _discard(producer)
                reason = _reason(error)
                if reason is not None and reason.code() in _REFUSED:
                    raise
                logger.warning("the transactional producer cannot start yet: %s", error)
                if self._stopping.wait(0.5):
                    raise Stopped from None
            else:
                self._producer = producer
                return

    def _init(self, producer: Producer) -> None:
        # In short steps, which a stop can interrupt; a coordinator may need longer for the whole.
        for attempt in range(INIT_ATTEMPTS):
            self._beat()
            try:
                producer.init_transactions(INIT_TIMEOUT_S)
            except KafkaException as error:
                reason = _reason(error)
                last = attempt == INIT_ATTEMPTS - 1 or self._stopping.is_set()
                if last or reason is None or not reason.retriable():
                    raise
            else:
                return

    def publish(
        self,
        finished: Mapping[PartitionKey, Sequence[Record]],
        offsets: list[TopicPartition],
        metadata: Any,
    ) -> bool:
        """Commits the finished records of each partition:

        1. begin a transaction;
        2. produce every record's results, or its dead letter;
        3. send the offsets;
        4. commit.

        Args:
            offsets: the one after each partition's last record, with the claim on the partition.
            metadata: the consumer's group metadata, taken just now.

        Returns:
            Whether all of it is committed; if not, the broker has to be asked what became of it.

        Raises:
            ProducerFenced: another process keeps taking the transactional id.
            Stopped: the worker was told to stop while Kafka was away.
        """
        producer = self._sound_producer()
        counts: Counter[str] = Counter()
        started = self._account.publish.start()
        try:
            producer.begin_transaction()
            for records in finished.values():
                for record in records:
                    self._produce(producer, record, counts)
            self._beat()
            producer.send_offsets_to_transaction(offsets, metadata, API_TIMEOUT_S)
            self._beat()
            producer.commit_transaction(API_TIMEOUT_S)
        except (KafkaException, SystemError, BufferError) as error:
            self._recover(producer, error)
            return False
        finally:
            self._account.publish.stop(started)
        self.published.update(counts)
        return True

    def _sound_producer(self) -> Producer:
        """The producer; another one where this one has lost all brokers: it may never find them again."""
        producer = self._producer
        assert producer is not None
        producer.poll(0)
        if self._brokers_lost:
            logger.warning("the transactional producer lost all brokers; making another one")
            self._producer = None
            _discard(producer)
            self.start()
            producer = self._producer
            assert producer is not None
        return producer

    def _on_error(self, error: KafkaError) -> None:
        log_client_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._brokers_lost = True

    def close(self) -> None:
        """Lets go of the producer; nothing is open between two calls of `publish`."""
        if self._producer is not None:
            _discard(self._producer)
            self._producer = None

    def _produce(self, producer: Producer, record: Record, counts: Counter[str]) -> None:
        if record.rejection is not None:
            counts["dead-letter"] += 1
            self._produce_dead_letter(producer, record, record.rejection)
        for task in record.tasks:
            assert task.answer is not None
            result = task.answer
            if task.poison is not None:
                counts["dead-letter"] += 1
                self._produce_dead_letter(producer, record, task.poison, task)
            counts[result.status] += 1
            producer.produce(
                self._results_topic,
                key=result.request_id.encode(),
                value=task.encoded,
                # Not by key: the answers to one partition stay in one, and so in its order.
                partition=result.source.partition % self._results_partitions,
                headers=cast(Any, result_headers(result, _traceparent(record.headers))),
            )

    def _produce_dead_letter(
        self, producer: Producer, record: Record, reason: AnalysisError, task: Task | None = None
    ) -> None:
        headers, key, value = fit(
            record,
            lambda original: dead_letter_headers(
                original,
                reason.code,
                reason.message,
                record.position,
                attempts=1 if task is None else task.attempts,
                failed_at=datetime.now(UTC),
                component=self._component,
                index=None if task is None else task.source.index,
            ),
        )
        producer.produce(self._dead_letters_topic, key=key, value=value, headers=cast(Any, headers))

    def _recover(self, producer: Producer, error: Exception) -> None:
        reason = _reason(error)
        logger.warning("a transaction failed: %s", error)
        if reason is not None and reason.txn_requires_abort() and not reason.fatal():
            self._beat()
            try:
                producer.abort_transaction(ABORT_TIMEOUT_S)
            except (KafkaException, SystemError) as failure:
                logger.warning("its abort failed too: %s", failure)
            else:
                return
        self._producer = None
        _discard(producer)
        if reason is not None and reason.code() == KafkaError._FENCED:
            self._give_way()
        self.start()

    def _give_way(self) -> None:
        """Lets the other one finish: it may be a former self, or want the id for a moment only."""
        now = time.monotonic()
        while self._fenced_at and self._fenced_at[0] < now - FENCED_WINDOW_S:
            self._fenced_at.popleft()
        self._fenced_at.append(now)
        if len(self._fenced_at) == FENCED_LIMIT:
            raise ProducerFenced(self._config["transactional.id"])
        self._stopping.wait(FENCED_PAUSE_S * 2 ** (len(self._fenced_at) - 1))


def fit(
    record: Record, explain: Callable[[Headers], list[tuple[str, bytes | None]]]
) -> tuple[list[tuple[str, bytes | None]], bytes | None, bytes | None]:
    """A dead letter's headers, key and value, cut where the topic could not take them whole.

    Compressed by its publisher, a record may be larger than any that we can write. Its own headers go
    first, then the end of its key, then that of its value. The whole stays at its source position, which
    the reason names.

    Args:
        explain: adds the reason to a record's own headers.
    """
    room = MAX_DEAD_LETTER_BYTES - FRAMING_BYTES
    headers = explain(record.headers)
    cut = _size(headers) > room // 2
    if cut:
        headers = explain(replay_only(record.headers))
    room -= _size(headers)
    key = None if record.key is None else record.key[: room // 2]
    room -= len(key or b"")
    value = None if record.value is None else record.value[:room]
    if cut or (key, value) != (record.key, record.value):
        headers = [*headers, TRUNCATED_MARK]
    return headers, key, value


def _size(headers: Headers) -> int:
    return sum(len(name.encode()) + len(value or b"") + HEADER_FRAMING_BYTES for name, value in headers)


def _traceparent(headers: Headers) -> bytes | None:
    value = last_header(headers, TRACEPARENT)
    return value if value is not None and len(value) <= MAX_TRACEPARENT_BYTES else None


def _reason(error: Exception) -> KafkaError | None:
    reason = error.args[0] if error.args else None
    return reason if isinstance(reason, KafkaError) else None


def _discard(producer: Producer) -> None:
    # close() and flush() would wait for brokers that may be away; what is queued belongs to no commit.
    producer.purge()
