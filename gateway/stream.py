"""`/api/v1/stream`: results as they are committed, as server-sent events."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Annotated, cast

from confluent_kafka import Message
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from gateway.feed import Dismissed, Event, Listener, Positions
from gateway.openapi import problems
from gateway.problems import Refused
from gateway.services import Given, Services
from infra.settings import KafkaSettings
from producers.reader import TopicReader
from producers.results import ResultFilter, read_result
from schemas.errors import ErrorCode
from schemas.messages import Status

logger = logging.getLogger(__name__)
router = APIRouter()

HEARTBEAT_S = 10.0
RETRY_MS = 2000
CATCHING_UP = 1000
"""Events that are read ahead for one who comes back."""
CATCHING_UP_AT_ONCE = 4
"""Listeners whose past is read at the same time; the others wait."""
LOOK_S = 1.0
MOST = 2**62
"""Beyond any offset."""
HEARTBEAT = b": still here\n\n"
DONE = cast("Event", object())
"""Ends what was missed."""

_catching_up_at_once = asyncio.Semaphore(CATCHING_UP_AT_ONCE)


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "An event `result` for each: its data is a Result, its id where to go on.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(ErrorCode.USAGE),
    },
)
async def stream(
    services: Given,
    module: Annotated[str | None, Query(description="Only this module's.")] = None,
    label: Annotated[str | None, Query(description="Only with a detection of this label.")] = None,
    min_score: Annotated[float, Query(ge=0, le=1, description="Of that detection.")] = 0.0,
    status: Annotated[Status | None, Query(description="`ok` or `failed`.")] = None,
    last_event_id: Annotated[str | None, Header(description="Goes on after this event.")] = None,
) -> StreamingResponse:
    """Results from now on, or from where a connection broke: nothing is lost in between."""
    wanted = ResultFilter(module=module, status=status, label=label, min_score=min_score)
    since = None if last_event_id is None else read_event_id(last_event_id)
    return StreamingResponse(
        _events(services, wanted, since),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def event_id(after: Positions) -> str:
    """Names a place in the results: the next offset of each partition."""
    return "-".join(f"{partition}.{offset}" for partition, offset in sorted(after.items()))


def read_event_id(text: str) -> dict[int, int]:
    """The place that an event's id names.

    Raises:
        Refused: it is no such id.
    """
    try:
        pairs = (part.split(".") for part in text.split("-")) if text else ()
        place = {int(partition): int(offset) for partition, offset in pairs}
        if all(0 <= number <= MOST for pair in place.items() for number in pair):
            return place
    except ValueError:
        pass
    raise Refused(ErrorCode.USAGE, f"Last-Event-ID: {text[:80]!r} is not one that this service gave")


async def _events(
    services: Services, wanted: ResultFilter, since: Mapping[int, int] | None
) -> AsyncIterator[bytes]:
    """Ends where something would be lost: the client comes back with the last id that it has read."""
    try:
        # Before that nobody knows what was missed.
        while not await services.feed.begun(HEARTBEAT_S):
            yield HEARTBEAT
        with services.feed.listening() as listener:
            start = listener.start if since is None else since
            yield f"retry: {RETRY_MS}\nid: {event_id(start)}\n\n".encode()
            said_at_s = time.monotonic()
            async with contextlib.aclosing(_all_events(services, listener, start)) as events:
                async for event in events:
                    if event is not None and wanted.matches(event.result):
                        yield _encoded(event)
                    elif time.monotonic() - said_at_s < HEARTBEAT_S:
                        continue
                    else:
                        # One that waits for something rare need not begin here again.
                        yield HEARTBEAT if event is None else f"id: {event_id(event.after)}\n\n".encode()
                    said_at_s = time.monotonic()
    except (Dismissed, Interrupted):
        return


async def _all_events(
    services: Services, listener: Listener, since: Positions
) -> AsyncGenerator[Event | None]:
    """What was committed since, then what comes; None now and then while nothing does."""
    async with contextlib.aclosing(_missed(services, since, listener.start)) as missed:
        async for event in missed:
            yield event
    while True:
        live = await listener.next(LOOK_S)
        # Another gateway may have been further when the client's last event came from there.
        if live is None or live.offset >= since.get(live.partition, 0):
            yield live


class Interrupted(Exception):
    """What was missed cannot be read to its end."""


def _encoded(event: Event) -> bytes:
    return b"event: result\nid: %s\ndata: %s\n\n" % (event_id(event.after).encode(), event.encoded)


async def _missed(services: Services, since: Positions, until: Positions) -> AsyncGenerator[Event | None]:
    """What was committed between an event and the listener's begin; None now and then while nothing comes.

    Raises:
        Interrupted: Kafka does not answer.
    """
    if all(since.get(partition, end) >= end for partition, end in until.items()):
        return
    async with _catching_up_at_once:
        catching_up = CatchingUp(services.kafka, since, until)
        try:
            while True:
                found = await asyncio.to_thread(catching_up.next)
                if found is DONE:
                    return
                yield found
        finally:
            catching_up.stop()


class CatchingUp:
    """Reads the results between two places, in a thread of its own."""

    def __init__(self, kafka: KafkaSettings, since: Mapping[int, int], until: Positions) -> None:
        self._kafka = kafka
        self._after = {partition: since.get(partition, end) for partition, end in until.items()}
        self._until = until
        self._found: queue.Queue[Event | Interrupted] = queue.Queue(CATCHING_UP)
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="catching up", daemon=True).start()

    def next(self) -> Event | None:
        """The next result; None where none came in time, and `DONE` at the end.

        Raises:
            Interrupted: Kafka does not answer.
        """
        try:
            found = self._found.get(timeout=LOOK_S)
        except queue.Empty:
            return None
        if isinstance(found, Interrupted):
            raise found
        return found

    def stop(self) -> None:
        """Ends the thread, wherever it is."""
        self._stopping.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._found.get_nowait()

    def _run(self) -> None:
        topic = self._kafka.results_topic
        reader = TopicReader(self._kafka, (topic,))
        try:
            reader.open({(topic, partition): offset for partition, offset in self._after.items()})
            ends = {(topic, partition): end for partition, end in self._until.items()}
            while not self._stopping.is_set() and not reader.has_reached(ends):
                message = reader.poll(0.2)
                if message is not None:
                    self._take(message)
        except Exception as error:
            logger.exception("what a listener missed cannot be read")
            self._found.put(Interrupted(str(error)))
        else:
            self._found.put(DONE)
        finally:
            reader.close()

    def _take(self, message: Message) -> None:
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        result = read_result(message)
        # What lies beyond comes to the listener.
        if offset < self._until[partition] and result is not None:
            self._after[partition] = offset + 1
            self._found.put(Event(result, message.value() or b"", partition, offset, dict(self._after)))
