"""The dead-letter topic: what lies on it, and publishing it again."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, cast

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.kafka import (
    MAX_RECORD_BYTES,
    KafkaUnavailable,
    TopicNotFound,
    headers_of,
    make_admin,
    make_producer,
    partition_counts,
    record_time,
    require_topics,
    transactional_config,
)
from infra.settings import KafkaSettings
from producers.errors import InvalidArgument
from producers.reader import Offsets, TopicReader
from schemas.dead_letters import (
    DeadLetterReason,
    first_position,
    marked_letter,
    replay_headers,
    replay_mark,
    replays_of,
)
from schemas.headers import Headers
from schemas.messages import RecordPosition

MAX_REPLAYS = 3
"""A letter that came back so often is set aside, as is one that was cut, until its id is named."""

BATCH = 100
API_TIMEOUT_S = 30.0
TRANSACTION_TIMEOUT_MS = 60_000
FRAMING_BYTES = 1024
_POLL_S = 0.5
_NUMBER = re.compile(r"[0-9]{1,18}")

_REFUSALS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG})

State = Literal["waiting", "replayed", "set_aside"]


class LetterId(msgspec.Struct, frozen=True, order=True):
    """Where a letter lies on the dead-letter topic; written `partition-offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "LetterId":
        """Reads an id.

        Raises:
            InvalidArgument: the text is none.
        """
        partition, dash, offset = text.partition("-")
        if not (dash and _NUMBER.fullmatch(partition) and _NUMBER.fullmatch(offset)):
            raise InvalidArgument(f"{text!r} is no dead letter's id, such as 0-15")
        return cls(int(partition), int(offset))


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter without its value."""

    id: LetterId
    reason: DeadLetterReason
    """Its `failed_at`, where no header says it, is when the letter was written."""
    replays: int
    """How often the record had been published again when it came here."""
    state: State
    size_bytes: int


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with all that it holds."""

    letter: Letter
    key: bytes | None
    value: bytes | None
    headers: Headers


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant: those with one of the ids, or all that fit."""

    ids: frozenset[LetterId] = frozenset()
    code: str | None = None
    component: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        if self.ids:
            return letter.id in self.ids
        reason = letter.reason
        if self.code is not None and reason.code != self.code:
            return False
        if self.component is not None and reason.component != self.component:
            return False
        failed_at = reason.failed_at
        assert failed_at is not None
        return (self.since is None or failed_at >= self.since) and (
            self.until is None or failed_at < self.until
        )


class DeadLetterBox:
    """Reads the dead-letter topic as it is now, from its beginning to its end."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def letters(self, selection: Selection | None = None, ends: Offsets | None = None) -> list[Letter]:
        """The letters that are meant, oldest first in each partition.

        Args:
            ends: read at least so far, even where a transaction of somebody else is in the way.

        Raises:
            KafkaUnavailable, TopicNotFound: there is nothing to read.
        """
        found, marked = [], set[str]()
        for message in self._messages(ends):
            mark = _mark(message)
            if mark is not None:
                marked.add(mark)
                continue
            letter = _letter(message)
            if selection is None or selection.takes(letter):
                found.append(letter)
        return [
            msgspec.structs.replace(letter, state="replayed") if str(letter.id) in marked else letter
            for letter in found
        ]

    def originals(self, wanted: Collection[LetterId]) -> Iterator[Original]:
        """The letters with these ids, whole."""
        missing = set(wanted)
        for message in self._messages():
            if _mark(message) is not None:
                continue
            letter = _letter(message)
            if letter.id in missing:
                missing.remove(letter.id)
                yield Original(
                    letter=letter, key=message.key(), value=message.value(), headers=headers_of(message)
                )
                if not missing:
                    return

    def ends(self) -> Offsets:
        """Where the topic ends now, for those too who read what is not committed."""
        reader = TopicReader(self._settings, [self._settings.dead_letters_topic], committed=False)
        reader.open("end")
        try:
            return reader.start
        finally:
            reader.close()

    def _messages(self, ends: Offsets | None = None) -> Iterator[Message]:
        reader = TopicReader(self._settings, [self._settings.dead_letters_topic])
        reader.open("beginning")
        try:
            while not (reader.caught_up and (ends is None or reader.has_reached(ends))):
                message = reader.poll(_POLL_S)
                if message is not None:
                    yield message
        finally:
            reader.close()


class Replayed(msgspec.Struct, frozen=True):
    """What became of a replay."""

    published: int
    refused: tuple[tuple[LetterId, str], ...]
    """Letters that cannot be published where they came from, and why."""


class Replayer:
    """Publishes letters again, where they came from.

    Each batch goes out in one transaction with the marks that say so, on the dead-letter topic itself. So
    a run that was interrupted is continued by running it again, and no letter is published twice: of two
    runs at once the later one fences the earlier, and only then reads which letters are marked.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.dead_letters_topic
        self._box = DeadLetterBox(settings)
        self._producer = make_producer(
            transactional_config(settings, f"replay.{self._topic}", TRANSACTION_TIMEOUT_MS)
        )
        self._partitions: dict[str, int] = {}

    def letters(self, selection: Selection) -> list[Letter]:
        """The letters that are meant, after every replay before this one has ended.

        Raises:
            KafkaUnavailable, TopicNotFound: there is nothing to read.
        """
        try:
            self._producer.init_transactions(API_TIMEOUT_S)
        except KafkaException as error:
            raise KafkaUnavailable(self._settings) from error
        return self._box.letters(selection, self._box.ends())

    def replay(self, letters: Sequence[Letter], rate: float | None) -> Replayed:
        """Publishes letters again.

        Args:
            letters: of the method of this name.
            rate: letters a second at most.

        Raises:
            KafkaUnavailable: the broker went away; run again, what was published is marked.
            InvalidArgument: another replay has begun since.
        """
        size = BATCH if rate is None else max(1, min(BATCH, int(rate)))
        started: float | None = None
        published, refused = 0, list[tuple[LetterId, str]]()
        for batch in _batches(self._box.originals([letter.id for letter in letters]), size):
            started = started or time.monotonic()
            refused += self._publish(batch)
            published += len(batch)
            if rate is not None:
                time.sleep(max(0.0, started + published / rate - time.monotonic()))
        return Replayed(published - len(refused), tuple(refused))

    def _publish(self, batch: Sequence[Original]) -> list[tuple[LetterId, str]]:
        """Publishes a batch, or of one that is refused each letter that can be; returns the others."""
        try:
            self._commit(batch)
        except (KafkaException, TopicNotFound) as error:
            reason = error.args[0]
            if isinstance(reason, KafkaError) and reason.code() == KafkaError._FENCED:
                raise InvalidArgument("another replay has begun since; this one ends") from error
            if isinstance(reason, KafkaError) and reason.code() not in _REFUSALS:
                raise KafkaUnavailable(self._settings) from error
            if len(batch) == 1:
                return [(batch[0].letter.id, str(error))]
            return [refusal for original in batch for refusal in self._publish([original])]
        return []

    def _commit(self, batch: Sequence[Original]) -> None:
        producer = self._producer
        producer.begin_transaction()
        try:
            for original in batch:
                self._produce(producer, original)
            producer.commit_transaction(API_TIMEOUT_S)
        except BaseException:
            # Readers of committed records would stand still until its time-out.
            with contextlib.suppress(KafkaException):
                producer.abort_transaction(API_TIMEOUT_S)
            raise

    def _produce(self, producer: Producer, original: Original) -> None:
        letter = original.letter
        reason = letter.reason
        topic = reason.topic or self._settings.images_topic
        count = self._partition_count(topic)
        # Its identity holds in the partition where it first lay.
        place = reason.partition if reason.partition is not None and reason.partition < count else -1
        headers = replay_headers(original.headers, _identity(original), reason, letter.replays + 1)
        size = len(original.key or b"") + len(original.value or b"")
        size += sum(len(name) + len(value or b"") for name, value in headers)
        if size > MAX_RECORD_BYTES - FRAMING_BYTES:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        producer.produce(
            topic, key=original.key, value=original.value, partition=place, headers=cast(Any, headers)
        )
        mark = cast(Any, replay_mark(str(letter.id)))
        producer.produce(self._topic, partition=letter.id.partition, headers=mark)

    def _partition_count(self, topic: str) -> int:
        if topic not in self._partitions:
            require_topics(self._settings, [topic])
            self._partitions.update(partition_counts(self._settings, [topic]))
        return self._partitions[topic]


def purge(settings: KafkaSettings, before: datetime | None) -> int:
    """Deletes letters for good, from the beginning of each partition; returns how many records went.

    Args:
        before: keeps what was put there at this time or later; None deletes all.
    """
    topic = settings.dead_letters_topic
    require_topics(settings, [topic])
    reader = TopicReader(settings, [topic])
    first = _where(reader, "beginning")
    last = _where(reader, "end" if before is None else before)
    ends = [TopicPartition(*where, last[where]) for where in first if last[where] > first[where]]
    if not ends:
        return 0
    admin = make_admin(settings)  # until all is answered: it takes its futures with it
    for future in admin.delete_records(ends, request_timeout=API_TIMEOUT_S).values():
        future.result(API_TIMEOUT_S)
    return sum(end.offset - first[end.topic, end.partition] for end in ends)


def histogram(letters: Iterable[Letter]) -> Counter[tuple[str, str]]:
    """How many letters there are by component and code."""
    return Counter((letter.reason.component or "?", letter.reason.code or "?") for letter in letters)


def _where(reader: TopicReader, start: Any) -> dict[tuple[str, int], int]:
    reader.open(start)
    try:
        return dict(reader.start)
    finally:
        reader.close()


def _letter(message: Message) -> Letter:
    headers = headers_of(message)
    replays = replays_of(headers)
    reason = DeadLetterReason.from_headers(headers)
    if reason.failed_at is None:
        reason = msgspec.structs.replace(reason, failed_at=record_time(message))
    return Letter(
        id=LetterId(int(message.partition() or 0), int(message.offset() or 0)),
        reason=reason,
        replays=replays,
        state="set_aside" if replays >= MAX_REPLAYS or reason.truncated else "waiting",
        size_bytes=len(message.value() or b""),
    )


def _mark(message: Message) -> str | None:
    return marked_letter(message.key(), message.value(), headers_of(message))


def _identity(original: Original) -> RecordPosition | None:
    """Where the record first lay; None where its letter does not say."""
    reason = original.letter.reason
    if (
        reason.topic_id is None
        or reason.topic is None
        or reason.partition is None
        or reason.offset is None
        or reason.timestamp is None
    ):
        return None
    there = RecordPosition(reason.topic_id, reason.topic, reason.partition, reason.offset, reason.timestamp)
    return first_position(original.headers, there)


def _batches(originals: Iterable[Original], size: int) -> Iterator[list[Original]]:
    batch: list[Original] = []
    for original in originals:
        batch.append(original)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
