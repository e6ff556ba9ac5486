"""Publishing requests: handed over at once, acknowledged later, failures never lost."""

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.kafka import KafkaUnavailable, TopicNotFound, make_producer, producer_config, require_topics
from infra.settings import KafkaSettings
from producers.errors import RequestNotPublished
from schemas.codec import decode_request, encode
from schemas.errors import AnalysisError
from schemas.messages import RecordPosition, Request

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_KEPT_FAILURES = 100
_AWAY = {KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_NO_TOPIC = {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}


class Publisher:
    """An idempotent producer of requests, for any number of threads; connected at the first use.

    A thread of its own serves the acknowledgements, so that they come without anyone's asking.

    Args:
        delivery_timeout_s: how long a request may wait for its acknowledgement.
    """

    def __init__(self, settings: KafkaSettings, delivery_timeout_s: float) -> None:
        self._settings = settings
        self._delivery_timeout_s = delivery_timeout_s
        self._topic_id = ""
        self._producer: Producer | None = None
        self._server = threading.Thread(target=self._serve, name="acknowledgements", daemon=True)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._pending: set[Future[RecordPosition]] = set()
        self._failures: deque[AnalysisError] = deque(maxlen=_KEPT_FAILURES)

    def open(self) -> Producer:
        """Connects, where that was not done before.

        Raises:
            KafkaUnavailable: no broker answers.
            TopicNotFound: the images topic does not exist.
        """
        with self._lock:
            if self._closing.is_set():
                raise RuntimeError("the client is closed")
            if self._producer is None:
                topic = self._settings.images_topic
                self._topic_id = require_topics(self._settings, [topic])[topic]
                config = producer_config(self._settings)
                config["message.timeout.ms"] = int(self._delivery_timeout_s * 1000)
                self._producer = make_producer(config)
                self._server.start()
            return self._producer

    def publish(self, request: Request) -> "Future[RecordPosition]":
        """Hands a request over; the future ends when every in-sync replica has it, or with the failure.

        Raises:
            DecodeError: a consumer would refuse the request.
            KafkaUnavailable, TopicNotFound: as `open`.
        """
        value = encode(request)
        decode_request(value)
        producer = self.open()
        acknowledged: Future[RecordPosition] = Future()
        # The record cannot be called back, so the future cannot be cancelled either.
        acknowledged.set_running_or_notify_cancel()
        with self._lock:
            self._pending.add(acknowledged)
        on_delivery = partial(self._delivered, request.request_id, acknowledged)
        while True:
            try:
                producer.produce(
                    self._settings.images_topic, value, request.request_id, on_delivery=on_delivery
                )
            except BufferError:
                # The producer's queue is full: wait until some of it is delivered.
                time.sleep(_POLL_S)
            except KafkaException as error:
                self._fail(request.request_id, acknowledged, error.args[0])
                return acknowledged
            else:
                return acknowledged

    def flush(self, timeout_s: float | None = None) -> None:
        """Waits until every request so far is acknowledged.

        Raises:
            TimeoutError: some are not yet, after `timeout_s`.
            RequestNotPublished, KafkaUnavailable, TopicNotFound: the first failure since the last call.
        """
        with self._lock:
            pending = set(self._pending)
        unfinished = wait(pending, timeout_s).not_done
        with self._lock:
            failures = list(self._failures)
            self._failures.clear()
        if failures:
            raise failures[0]
        if unfinished:
            raise TimeoutError(f"{len(unfinished)} requests are not acknowledged after {timeout_s} s")

    def close(self, timeout_s: float | None = None) -> None:
        """Waits for what is left, no longer than `timeout_s` or the delivery time-out, and disconnects."""
        if self._producer is None or self._closing.is_set():
            return
        self._producer.flush(self._delivery_timeout_s + 1 if timeout_s is None else timeout_s)
        self._closing.set()
        self._server.join()

    def _serve(self) -> None:
        while self._producer is not None and not self._closing.is_set():
            try:
                self._producer.poll(_POLL_S)
            except KafkaException as error:
                # The producer is done for; it goes on to report that of each request.
                logger.error("the producer of requests cannot go on: %s", error)
                self._closing.wait(_POLL_S)
            except Exception:
                # A callback's bug costs its own request's answer, not those of all that follow.
                logger.exception("an acknowledgement could not be handled")

    def _delivered(
        self,
        request_id: str,
        acknowledged: "Future[RecordPosition]",
        error: KafkaError | None,
        message: Message,
    ) -> None:
        if error is not None:
            self._fail(request_id, acknowledged, error)
            return
        with self._lock:
            self._pending.discard(acknowledged)
        acknowledged.set_result(
            RecordPosition(
                self._topic_id,
                self._settings.images_topic,
                int(message.partition() or 0),
                int(message.offset() or 0),
                datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
            )
        )

    def _fail(self, request_id: str, acknowledged: "Future[RecordPosition]", error: KafkaError) -> None:
        failure = self._failure(request_id, error)
        with self._lock:
            self._pending.discard(acknowledged)
            self._failures.append(failure)
        acknowledged.set_exception(failure)

    def _failure(self, request_id: str, error: KafkaError) -> AnalysisError:
        if error.code() in _AWAY:
            return KafkaUnavailable(self._settings)
        if error.code() in _NO_TOPIC:
            return TopicNotFound(self._settings.images_topic)
        return RequestNotPublished(request_id, error.str())
