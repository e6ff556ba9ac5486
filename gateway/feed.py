"""Results as they are committed, for everybody who waits for one or watches all."""

import asyncio
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Message

from infra.kafka import headers_of
from infra.settings import KafkaSettings
from producers.answers import Refusal
from producers.reader import Offsets, Start, TopicReader
from producers.results import read_result
from schemas.dead_letters import ANSWERED_TOO, DeadLetterReason
from schemas.errors import AnalysisError
from schemas.messages import Result

logger = logging.getLogger(__name__)

POLL_S = 0.2
AGAIN_S = 1.0
BATCH = 200
REMEMBERED, REMEMBERED_EACH = 2000, 50
"""Requests whose answers are kept for those who ask before the sink has stored them."""
BACKLOG = 2000
"""Events that a slow listener may be behind; beyond that it is sent away, and comes back by its last one."""

Positions = Mapping[int, int]
"""The next offset of each partition of the results topic."""


class Event(msgspec.Struct, frozen=True):
    """A committed result, as its listeners get it."""

    result: Result
    encoded: bytes
    partition: int
    offset: int
    after: Positions
    """Where to go on reading after it."""


class Listener:
    """One who watches all results."""

    def __init__(self, start: Positions) -> None:
        self.start = start
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._dismissed = False

    def put(self, event: Event) -> None:
        """Called by the feed."""
        if self._events.qsize() >= BACKLOG:
            self.dismiss()
        elif not self._dismissed:
            self._events.put_nowait(event)

    def dismiss(self) -> None:
        """Called by the feed: nothing comes any more."""
        if not self._dismissed:
            self._dismissed = True
            self._events.put_nowait(None)

    async def next(self, timeout_s: float) -> Event | None:
        """The next result; None where none came in time.

        Raises:
            Dismissed: so many are waiting that some would be lost, or the process ends.
        """
        try:
            event = await asyncio.wait_for(self._events.get(), timeout_s)
        except TimeoutError:
            return None
        if event is None:
            raise Dismissed
        return event


class Dismissed(Exception):
    """A listener gets no more; it may come back and go on where it was."""


class Expected:
    """The answers to some requests that somebody waits for."""

    def __init__(self, request_ids: Collection[str], modules: Collection[str]) -> None:
        self.results: dict[str, list[Result]] = {request_id: [] for request_id in request_ids}
        self.refusals: dict[str, Refusal] = {}
        self._modules = frozenset(modules)
        self._complete = asyncio.Event()

    def take(self, answer: Result | Refusal) -> None:
        """Called by the feed."""
        if isinstance(answer, Refusal):
            self.refusals[answer.request_id] = answer
        else:
            self.results[answer.request_id].append(answer)
        if all(map(self.is_answered, self.results)):
            self._complete.set()

    def is_answered(self, request_id: str) -> bool:
        """Whether every module that was named has answered, or any where none was."""
        answered = {result.module.name for result in self.results[request_id]}
        return request_id in self.refusals or bool(answered and answered >= self._modules)

    async def wait(self, timeout_s: float) -> bool:
        """Whether everything was answered in time."""
        try:
            await asyncio.wait_for(self._complete.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


class Feed:
    """Follows the results and the dead letters from the moment of its start, in a thread of its own.

    While Kafka is away nothing comes; what was committed meanwhile comes later. `connected` tells whether
    Kafka has answered since the last failure that ended the reading.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self.connected = False
        self.positions: dict[int, int] = {}
        self._kafka = kafka
        self._expected: defaultdict[str, list[Expected]] = defaultdict(list)
        self._listeners: set[Listener] = set()
        self._recent: OrderedDict[str, list[Result]] = OrderedDict()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = asyncio.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._follow, name="feed", daemon=True)

    def start(self) -> None:
        """Begins; to be called on the event loop that all others use it from."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def begun(self, timeout_s: float) -> bool:
        """Waits until it is known where the results stand; whether it is, after this time.

        Raises:
            Dismissed: the process ends.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), timeout_s)
        if self._ending:
            raise Dismissed
        return self._begun.is_set()

    def dismiss(self) -> None:
        """Sends all listeners away; may be called from any thread."""
        self._call(self._dismiss)

    def stop(self) -> None:
        """Ends reading."""
        self._stopping.set()

    def recent(self, request_id: str) -> list[Result]:
        """The latest answers to a request, which the sink may not have stored yet."""
        return self._recent.get(request_id, [])

    @contextmanager
    def expecting(self, request_ids: Collection[str], modules: Collection[str]) -> Iterator[Expected]:
        """Collects the answers to requests; to be entered before these are published."""
        expected = Expected(request_ids, modules)
        for request_id in request_ids:
            self._expected[request_id].append(expected)
        try:
            yield expected
        finally:
            for request_id in request_ids:
                self._expected[request_id].remove(expected)
                if not self._expected[request_id]:
                    del self._expected[request_id]

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Hands every result on from here."""
        listener = Listener(dict(self.positions))
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _follow(self) -> None:
        where: Start | Offsets = "end"
        while not self._stopping.is_set():
            reader = TopicReader(self._kafka, (self._kafka.results_topic, self._kafka.dead_letters_topic))
            try:
                reader.open(where)
                # From here on nothing is missed, whatever happens to this reader.
                following = where = dict(reader.start)
                self._call(self._begin, dict(following))
                while not self._stopping.is_set():
                    messages = _some(reader)
                    for message in messages:
                        following[str(message.topic()), int(message.partition() or 0)] = _after(message)
                    if messages:
                        self._call(self._take, messages)
            except (AnalysisError, KafkaException) as error:
                logger.warning("results cannot be followed; trying again: %s", error)
            finally:
                reader.close()
            self._call(self._lose)
            self._stopping.wait(AGAIN_S)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(function, *arguments)

    def _dismiss(self) -> None:
        self._ending = True
        for listener in self._listeners:
            listener.dismiss()

    def _begin(self, start: Mapping[tuple[str, int], int]) -> None:
        self.connected = True
        self._begun.set()
        for (topic, partition), offset in start.items():
            if topic == self._kafka.results_topic:
                self.positions[partition] = offset

    def _lose(self) -> None:
        self.connected = False

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            try:
                if message.topic() == self._kafka.results_topic:
                    self._take_result(message)
                else:
                    self._take_dead_letter(message)
            except Exception:
                logger.exception("a record of %s could not be handed on", message.topic())

    def _take_result(self, message: Message) -> None:
        self.positions[int(message.partition() or 0)] = _after(message)
        result = read_result(message)
        if result is None:
            return
        self._remember(result)
        for expected in self._expected.get(result.request_id, ()):
            expected.take(result)
        if self._listeners:
            partition, offset = int(message.partition() or 0), int(message.offset() or 0)
            event = Event(result, message.value() or b"", partition, offset, dict(self.positions))
            for listener in self._listeners:
                listener.put(event)

    def _remember(self, result: Result) -> None:
        answers = self._recent.setdefault(result.request_id, [])
        answers.insert(0, result)
        del answers[REMEMBERED_EACH:]
        self._recent.move_to_end(result.request_id)
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)

    def _take_dead_letter(self, message: Message) -> None:
        request_id = (message.key() or b"").decode(errors="replace")
        waiting = self._expected.get(request_id, ())
        reason = DeadLetterReason.from_headers(headers_of(message)) if waiting else None
        if reason is None or reason.topic != self._kafka.images_topic or reason.code in ANSWERED_TOO:
            return
        refusal = Refusal(request_id, reason.code or "", reason.message or "no reason is given")
        for expected in waiting:
            expected.take(refusal)


def _some(reader: TopicReader) -> list[Message]:
    """What has come, a batch at most."""
    messages: list[Message] = []
    message = reader.poll(POLL_S)
    while message is not None:
        messages.append(message)
        message = reader.poll(0) if len(messages) < BATCH else None
    return messages


def _after(message: Message) -> int:
    return int(message.offset() or 0) + 1
