"""Stage 1: records of the images topic become tasks."""

import logging
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime

from confluent_kafka import Message

from consumers.analyzer.window import Found, PartitionWindow, Record, Task
from infra.kafka import headers_of, record_time
from schemas.codec import DecodeError
from schemas.dead_letters import first_position, replayed_for
from schemas.intake import IntakeItem, read_record
from schemas.messages import RecordPosition

logger = logging.getLogger(__name__)


class Intake:
    """Decodes records for one module; counts what asks for nothing."""

    def __init__(self, module: str, topic_id: str, allowed_buckets: Collection[str]) -> None:
        self.skipped: Counter[str] = Counter()
        self._module = module
        self.topic_id = topic_id
        self._allowed_buckets = frozenset(allowed_buckets)

    def read(self, message: Message, window: PartitionWindow) -> Record:
        """Turns a record into its tasks; one that cannot be read keeps the reason as its rejection."""
        record = Record(
            position=self._position(message),
            key=message.key(),
            value=message.value(),
            headers=headers_of(message),
        )
        component, index = replayed_for(record.headers)
        if component is not None and component != f"analyzer.{self._module}":
            self.skipped["replay_for_other"] += 1
            return record
        identity = first_position(record.headers, record.position)
        try:
            intake = read_record(record.value, record.headers, identity, self._allowed_buckets)
        except DecodeError as error:
            record.rejection = error
            logger.warning(
                "%s[%d]@%d is not a request: %s: %s",
                record.position.topic,
                record.position.partition,
                record.position.offset,
                error.code,
                error.message,
            )
            return record
        self.skipped.update(intake.skipped)
        wanted = [item for item in intake.items if item.request.wants(self._module)]
        if index is not None:
            wanted = [item for item in wanted if item.index == index]
        self.skipped["other_module"] += len(intake.items) - len(wanted)
        record.tasks = tuple(self._task(item, record.position, identity, window) for item in wanted)
        return record

    def _position(self, message: Message) -> RecordPosition:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        return RecordPosition(self.topic_id, topic, partition, offset, record_time(message))

    def _task(
        self, item: IntakeItem, position: RecordPosition, identity: RecordPosition, window: PartitionWindow
    ) -> Task:
        task = Task(
            request=item.request,
            fallback_key=item.fallback_key,
            source=identity.at(item.index),
            partition=window,
            found=Found(key=item.request.image.key),
            offset=position.offset,
        )
        waited = datetime.now(UTC) - position.timestamp
        task.spent.queued = max(0.0, waited.total_seconds() * 1000)
        return task
