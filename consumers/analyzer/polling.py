"""The worker's main loop: the one thread that owns the consumer and the transactions."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.analyzer.admission import Admission, Trial
from consumers.analyzer.answers import Answers
from consumers.analyzer.brake import Brake
from consumers.analyzer.claims import Ownership
from consumers.analyzer.intake import Intake
from consumers.analyzer.pipeline import Pipeline
from consumers.analyzer.publishing import Publisher
from consumers.analyzer.window import PartitionKey, PartitionWindow, Record, Window
from infra.kafka import KafkaUnavailable, leave_group, require_topics
from infra.settings import AnalyzerSettings, KafkaSettings
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

MAX_CONSUME = 200
IDLE_POLL_S = 0.05
"""A record ends the wait; only a signal to stop has to wait it out."""
BUSY_POLL_S = 0.005
"""While something is in flight: its end is only seen between two polls."""
BACKLOG_POLL_S = 0.03
"""Behind a backlog nobody waits for the end of one image, and each look costs as much as an image."""
CROWD = 32
MOST_INTERVALS = 4
"""The interval between transactions is stretched to so many times itself: once for each `CROWD` in flight."""
COMMITTED_TIMEOUT_S = 5.0
FAILED_PUBLISH_PAUSE_S = 0.3
REPORT_INTERVAL_S = 60.0
IDLE_READY_S = 10.0


class TopicReplaced(AnalysisError):
    """The images topic is another one than at the worker's start; a new worker begins with it."""


class Poller:
    """Takes records in while there is room, and publishes what is finished.

    A partition's work is dropped the moment the partition is revoked or lost: the group does not check who
    owns a partition, so committing such work later would double it and move the offset back.
    """

    def __init__(
        self,
        consumer: Consumer,
        kafka: KafkaSettings,
        intake: Intake,
        pipeline: Pipeline,
        publisher: Publisher,
        answers: Answers,
        ownership: Ownership,
        settings: AnalyzerSettings,
    ) -> None:
        self._consumer = consumer
        self._kafka = kafka
        self._intake = intake
        self._pipeline = pipeline
        self._publisher = publisher
        self._ownership = ownership
        self._settings = settings
        self._window = Window()
        self._admission = Admission(pipeline, answers, self._window)
        self._brake = Brake(settings.max_failures_in_row, settings.max_failure_share)
        self._assigned = False
        self._topic_checked = True
        self._subscribed_at = float("inf")
        self._paused = False
        self._draining = False
        self._in_doubt: dict[PartitionKey, int] | None = None
        self._failure: Exception | None = None
        self._published_at = 0.0
        self._publish_not_before = 0.0
        self._report_at = time.monotonic() + REPORT_INTERVAL_S

    def subscribe(self) -> None:
        """Joins the group."""
        self._consumer.subscribe(
            [self._kafka.images_topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self._subscribed_at = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether partitions were assigned, or there seem to be none for this worker.

        A member that gets nothing hears nothing in the `consumer` protocol.
        """
        idle = time.monotonic() - self._subscribed_at > IDLE_READY_S
        return self._assigned or (idle and bool(self._consumer.memberid()))

    def step(self) -> None:
        """Takes records in for a moment, and publishes what is due.

        Raises:
            ProducerFenced: another process keeps taking the transactional id.
            Stopped: told to stop while Kafka is away.
        """
        self._pipeline.beat()
        self._read()
        if self._failure is not None:
            raise self._failure
        self._pipeline.check()
        if not self._topic_checked:
            self._check_topic()
        self._adjust_intake()
        if self._in_doubt is not None and time.monotonic() >= self._publish_not_before:
            self._reconcile(self._in_doubt)
        self._admit()
        self._publish_if_due()
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + REPORT_INTERVAL_S
            self._log_counts()

    def drain(self) -> bool:
        """Takes nothing new and publishes what was begun, for `drain_timeout_s` at most.

        Returns:
            Whether everything begun was finished, or is left because an outage keeps it.
        """
        self._draining = True
        deadline = time.monotonic() + self._settings.drain_timeout_s
        while not self._window.drained() and time.monotonic() < deadline:
            self.step()
        left = self._window.weight
        if left:
            logger.warning("%d requests are left for the next worker", left)
        return self._window.drained()

    def close(self) -> None:
        """Leaves the group; the revocation publishes what is finished."""
        if leave_group(self._consumer):
            self._log_counts()

    def _check_topic(self) -> None:
        """Makes sure that newly assigned partitions are still those of the topic that this worker began with.

        A topic that was deleted and made anew counts its offsets from 0 again: under the old id its requests
        would be taken for others that were answered long ago.
        """
        topic = self._kafka.images_topic
        try:
            found = require_topics(self._kafka, [topic])[topic]
        except KafkaUnavailable:
            return  # asked again in the next step
        self._topic_checked = True
        if found != self._intake.topic_id:
            raise TopicReplaced(ErrorCode.TOPIC_NOT_FOUND, f"the topic {topic} was deleted and made anew")

    def _read(self) -> None:
        # consume(n, t) waits until n records are there; poll returns with the first.
        first = self._consumer.poll(self._poll_s())
        if first is None:
            return
        # Before the next call, whose callbacks may give the partition away and get it back: this record
        # would then join those of the new assignment, and come a second time.
        self._take(first)
        for message in self._consumer.consume(MAX_CONSUME - 1, 0):
            self._take(message)

    def _poll_s(self) -> float:
        if self._paused and not self._draining:
            return BACKLOG_POLL_S
        return BUSY_POLL_S if self._window.weight else IDLE_POLL_S

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self._take_error(error)
            return
        window = self._window.get(str(message.topic()), int(message.partition() or 0))
        if window is None or self._draining:
            return
        record = self._intake.read(message, window)
        window.append(record)
        self._admission.take(record, window)

    def _take_error(self, error: KafkaError) -> None:
        # poll() delivers a fatal error under this code, with fatal() unset.
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise KafkaException(error)
        logger.warning("consumer: %s", error.str())

    def _adjust_intake(self) -> None:
        """Pauses when the window is full, resumes when it is half empty.

        Pausing drops what librdkafka has fetched ahead and resuming fetches it again, so there is a gap
        between the two.
        """
        settings = self._settings
        weight, size_bytes = self._window.weight, self._window.size_bytes
        if not self._paused:
            full = weight >= settings.window_records or size_bytes >= settings.window_bytes
            if full or self._draining:
                self._consumer.pause(self._owned())
                self._paused = True
        elif not self._draining and (
            weight <= settings.window_records // 2 and size_bytes <= settings.window_bytes // 2
        ):
            self._consumer.resume(self._owned())
            self._paused = False

    def _may_publish(self) -> bool:
        return self._in_doubt is None and self._topic_checked and time.monotonic() >= self._publish_not_before

    def _admit(self) -> None:
        """Lets in what was held back: until its partition was claimed, or until suspects were tried."""
        if not self._may_publish():
            return
        unclaimed = [window for window in self._window if window.held and not window.claimed]
        if unclaimed:
            self._claim(unclaimed)
        self._admission.step()
        trial = self._admission.due()
        if trial is not None and self._publish(self._window.finished(), [trial.window], trial):
            self._admission.begin(trial)

    def _claim(self, windows: Sequence[PartitionWindow]) -> None:
        """Reads what the former owners left, and commits that these partitions are in work here.

        Without that, nobody could tell afterwards that this worker died with them.
        """
        wanted = [TopicPartition(window.topic, window.partition) for window in windows]
        self._pipeline.beat()
        try:
            committed = self._consumer.committed(wanted, timeout=COMMITTED_TIMEOUT_S)
        except KafkaException as error:
            logger.warning("the committed offsets cannot be read yet: %s", error)
            self._publish_not_before = time.monotonic() + FAILED_PUBLISH_PAUSE_S
            return
        claimable = []
        for window, former in zip(windows, committed, strict=True):
            head = window.records[0].position.offset
            if former.offset > head:
                # A claim must never move the offset back.
                self._read_again(window, former.offset)
                continue
            window.next_offset = head
            window.standing = self._ownership.inherit(former.metadata, window.partition, head)
            claimable.append(window)
        if claimable and not self._publish({}, claimable):
            for window in claimable:
                window.standing = None

    def _publish_if_due(self) -> None:
        if not self._may_publish():
            return
        finished = self._window.finished()
        if not finished:
            return
        weight = sum(record.weight for records in finished.values() for record in records)
        waited_s = time.monotonic() - self._published_at
        if waited_s >= self._interval_s() or weight == self._window.weight:
            self._publish(finished)
            self._published_at = time.monotonic()

    def _interval_s(self) -> float:
        # A transaction costs the broker 6 ms of CPU, whatever it holds (measured with two workers and four
        # partitions). The more is in flight, the longer a request has waited already.
        interval_s = self._settings.transaction_interval_ms / 1000
        if self._draining:
            return interval_s
        return interval_s * min(max(1.0, self._window.weight / CROWD), MOST_INTERVALS)

    def _publish(
        self,
        finished: Mapping[PartitionKey, Sequence[Record]],
        mentioned: Collection[PartitionWindow] = (),
        trial: Trial | None = None,
        *,
        closing: bool = False,
    ) -> bool:
        """Commits what is finished, and a new claim on each partition that this touches.

        Args:
            mentioned: partitions to claim even if nothing of them is finished.
            trial: the suspect that begins now; by default the one that is under way.
            closing: whether these partitions are given up.
        """
        for records in finished.values():
            self._brake.check(records)
        offsets = self._offsets(finished, mentioned, trial or self._admission.under_way, closing=closing)
        self._in_doubt = {(offset.topic, offset.partition): offset.offset for offset in offsets}
        # The metadata is fresh, and nothing is consumed until the transaction has ended.
        if self._publisher.publish(finished, offsets, self._consumer.consumer_group_metadata()):
            self._window.forget(finished.items())
            self._in_doubt = None
            return True
        self._publish_not_before = time.monotonic() + FAILED_PUBLISH_PAUSE_S
        return False

    def _offsets(
        self,
        finished: Mapping[PartitionKey, Sequence[Record]],
        mentioned: Collection[PartitionWindow],
        trial: Trial | None,
        *,
        closing: bool,
    ) -> list[TopicPartition]:
        offsets = []
        for window in self._window:
            records = finished.get(window.key)
            if window.standing is None or not (records or window in mentioned):
                continue
            claim = window.standing.claim(
                self._ownership.owner,
                offset := records[-1].position.offset + 1 if records else window.next_offset,
                progress=bool(records),
                trial=trial.place if trial is not None and trial.window is window else None,
                # What is still at work may kill this process when the partition is long another's.
                closed=closing and not window.in_hand,
            )
            offsets.append(TopicPartition(window.topic, window.partition, offset, metadata=claim.text()))
        return offsets

    def _reconcile(self, attempted: dict[PartitionKey, int]) -> None:
        """After a failed transaction: asks the broker what is committed, and goes on from there."""
        self._pipeline.beat()
        try:
            committed = self._consumer.committed(self._owned(), timeout=COMMITTED_TIMEOUT_S)
        except KafkaException as error:
            logger.warning("the committed offsets cannot be read yet: %s", error)
            self._publish_not_before = time.monotonic() + FAILED_PUBLISH_PAUSE_S
            return
        for offset in committed:
            window = self._window.get(offset.topic, offset.partition)
            if window is not None and window.records:
                self._align(window, offset.offset, attempted.get((offset.topic, offset.partition)))
        self._in_doubt = None

    def _align(self, window: PartitionWindow, committed: int, attempted: int | None) -> None:
        head = window.records[0].position.offset
        if committed == attempted:
            window.forget_below(committed)
        elif committed > head:
            logger.warning(
                "%s[%d]: offset %d is committed, not %s: reading again from there",
                window.topic,
                window.partition,
                committed,
                attempted,
            )
            self._read_again(window, committed)

    def _read_again(self, window: PartitionWindow, offset: int) -> None:
        self._window.restart(window)
        position = TopicPartition(window.topic, window.partition, offset)
        try:
            self._consumer.seek(position)
        except KafkaException:
            # A partition that was assigned a moment ago cannot be sought in; assigning it again can.
            self._consumer.incremental_unassign([position])
            self._consumer.incremental_assign([position])

    def _owned(self) -> list[TopicPartition]:
        return [TopicPartition(window.topic, window.partition) for window in self._window]

    # Rebalance callbacks run inside poll() and consume(). No exception may leave them: consume() would
    # discard its records while the position has advanced.

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        try:
            consumer.incremental_assign(list(partitions))
            for partition in partitions:
                self._window.add(partition.topic, partition.partition)
            # A pause survives revocation and reassignment, so say which of the two holds now.
            (consumer.pause if self._paused else consumer.resume)(list(partitions))
            self._assigned = True
            if partitions:
                self._topic_checked = False
            logger.info("assigned: %s", _names(partitions))
        except Exception as error:
            logger.exception("assignment failed")
            self._failure = error

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        try:
            revoked = {(partition.topic, partition.partition) for partition in partitions}
            finished = {key: found for key, found in self._window.finished().items() if key in revoked}
            # An idle partition's claim does no harm: it says nothing of what is still to come.
            claimed = [one for one in self._window if one.key in revoked and one.claimed and one.records]
            if claimed and self._in_doubt is None:
                self._publish(finished, claimed, closing=True)
        except Exception as error:
            logger.exception("publishing before a revocation failed")
            self._failure = error
        finally:
            self._give_up(consumer, partitions, "revoked")

    def _on_lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up(consumer, partitions, "lost")

    def _give_up(self, consumer: Consumer, partitions: Sequence[TopicPartition], how: str) -> None:
        try:
            for partition in partitions:
                self._window.drop(partition.topic, partition.partition)
            consumer.incremental_unassign(list(partitions))
            logger.info("%s: %s", how, _names(partitions))
        except Exception as error:
            logger.exception("unassigning failed")
            self._failure = error

    def _log_counts(self) -> None:
        report = self._pipeline.report()
        logger.info(
            "so far: published %s, skipped %s, in flight %d; %.1f images a batch, busy: %s",
            dict(self._publisher.published),
            dict(+self._intake.skipped),
            self._window.weight,
            report.mean_batch,
            ", ".join(f"{stage} {share:.0%}" for stage, share in report.busy().items()),
        )


def _names(partitions: Sequence[TopicPartition]) -> str:
    return ", ".join(f"{partition.topic}[{partition.partition}]" for partition in partitions) or "nothing"
