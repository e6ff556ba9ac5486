"""The loop: results from Kafka, batches into PostgreSQL."""

import logging
import threading
import time
from collections.abc import Callable

import psycopg2
from confluent_kafka import Consumer, KafkaException, Message

from consumers.sink.assignment import Assignment
from consumers.sink.backoff import Backoff
from consumers.sink.batch import Batch, Record
from consumers.sink.dead_letters import DeadLetters
from consumers.sink.errors import StaleOffsets, is_outage
from consumers.sink.store import Store
from consumers.sink.tally import Tally
from infra.health import Health, Heartbeat
from infra.kafka import leave_group
from infra.settings import SinkSettings
from schemas.errors import AnalysisError

logger = logging.getLogger(__name__)

POLL_S = 0.05
"""consume() returns when it has what was asked for or when this is over."""

CHUNK_RECORDS = 200
"""Records asked for at once: between chunks the batch's bytes are looked at."""

STUCK_S = 120.0
"""Longer than any call in the loop may wait."""

MAINTENANCE_S = 3600.0
MAINTENANCE_AGAIN_S = 60.0


class Sink:
    """One consumer of the results topic that writes to one database."""

    def __init__(
        self,
        settings: SinkSettings,
        consumer: Consumer,
        assignment: Assignment,
        batch: Batch,
        store: Store,
        dead_letters: DeadLetters,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._assignment = assignment
        self._batch = batch
        self._store = store
        self._dead_letters = dead_letters
        self._backoff = Backoff()
        self._tally = Tally()
        self._maintain_at_s = 0.0
        self._ready = False
        self._heartbeat = Heartbeat(time.monotonic)

    @property
    def live(self) -> Health:
        """Whether the loop goes on; outages do not keep it."""
        silent_s = self._heartbeat.silent_s()
        return Health(silent_s < STUCK_S, {"silent_s": round(silent_s, 1)})

    @property
    def ready(self) -> Health:
        """Whether the sink has its partitions."""
        return Health(self._ready, {"holding_back": self._backoff.failing})

    def run(self, stopping: threading.Event, on_ready: Callable[[], None]) -> None:
        """Stores results until `stopping` is set; outages of Kafka and PostgreSQL are waited out.

        Args:
            on_ready: called once, when this sink has its partitions, or the group seems to have none for it.
        """
        try:
            self._assignment.subscribe()
            while not stopping.is_set():
                self._heartbeat.beat()
                self._read()
                self._announce(on_ready)
                if not self._backoff.waiting:
                    self._work()
            self._finish()
        finally:
            self._close()

    def _read(self) -> None:
        """Takes what has come into the batch; while it is held back, only keeps the group's contact."""
        if self._backoff.failing:
            messages = self._consumer.consume(1, POLL_S)
        else:
            room = max(1, self._settings.batch_rows - len(self._batch))
            messages = self._consumer.consume(min(room, CHUNK_RECORDS), POLL_S)
        if self._assignment.failure is not None:
            raise self._assignment.failure
        self._take(messages)

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            partition, offset = message.partition(), message.offset()
            if message.error() is None and self._assignment.take(partition, offset):
                self._batch.add(Record.from_message(message, self._assignment.topic.topic_id))
        # Errors last: they may move a partition, and the records beside them are from before.
        for message in messages:
            error = message.error()
            if error is not None:
                self._assignment.report(message.partition(), error)

    def _announce(self, on_ready: Callable[[], None]) -> None:
        if self._assignment.ready and not self._ready:
            self._ready = True
            on_ready()

    def _work(self) -> None:
        """Does what is due; an outage leaves it for later."""
        try:
            if self._backoff.failing:
                self._store.check()
            self._maintain()
            self._assignment.settle()
            if self._due():
                self._write()
        except StaleOffsets as error:
            logger.warning("another sink was faster (%s); reading on from there", error)
            self._drop_batch()
        except (AnalysisError, KafkaException, psycopg2.Error) as error:
            if not is_outage(error):
                raise
            self._hold(error)
        else:
            self._release()

    def _due(self) -> bool:
        batch, settings = self._batch, self._settings
        full = len(batch) >= settings.batch_rows or batch.size_bytes >= settings.batch_bytes
        return bool(batch) and (full or batch.age_s * 1000 >= settings.batch_wait_ms)

    def _write(self) -> None:
        """Stores the batch; only after the commit is it forgotten."""
        assignment, batch = self._assignment, self._batch
        expected = assignment.expected(batch.next_offsets)
        written = self._store.write(assignment.topic, batch, expected, self._dead_letters.bury)
        assignment.stored(batch.next_offsets)
        batch.clear()
        self._dead_letters.forget()
        self._tally.add(written)

    def _maintain(self) -> None:
        if time.monotonic() < self._maintain_at_s:
            return
        # Set before: a failure must not make this the first thing that every further try begins with.
        self._maintain_at_s = time.monotonic() + MAINTENANCE_AGAIN_S
        if self._store.maintain():
            self._maintain_at_s = time.monotonic() + MAINTENANCE_S

    def _drop_batch(self) -> None:
        self._assignment.distrust(list(self._batch.next_offsets))
        self._dead_letters.forget()

    def _hold(self, error: Exception) -> None:
        if not self._backoff.failing:
            logger.warning("waiting with %d results: %s", len(self._batch), str(error).strip())
        self._backoff.fail()
        self._store.close()
        self._assignment.hold()

    def _release(self) -> None:
        if self._backoff.failing:
            logger.info("going on after %.1f s of waiting", self._backoff.elapsed_s)
            self._backoff.succeed()
            self._assignment.release()

    def _finish(self) -> None:
        """Writes what is at hand, once: where that fails, the next sink reads it again."""
        if not self._batch or self._backoff.failing:
            return
        try:
            self._write()
        except (StaleOffsets, AnalysisError, psycopg2.Error) as error:
            logger.warning("stopping with %d results unwritten: %s", len(self._batch), str(error).strip())

    def _close(self) -> None:
        """Leaves the group first, so that others take over while the rest is closed."""
        leave_group(self._consumer)
        self._dead_letters.close()
        self._store.close()
        self._tally.log()
