"""`/api/v1/stream`: results as they are committed, as server-sent events."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from confluent_kafka import KafkaException, Message
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from gateway.feed import Dismissed, Event, Positions
from gateway.openapi import problems
from gateway.problems import Refused
from gateway.services import Given, Services
from infra.settings import KafkaSettings
from producers.reader import TopicReader
from producers.results import ResultFilter, read_result
from schemas.errors import AnalysisError, ErrorCode
from schemas.messages import Status

router = APIRouter()

HEARTBEAT_S = 10.0
RETRY_MS = 2000
CATCHING_UP = 1000
"""Events that are read ahead for one who comes back."""


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
        return {int(partition): int(offset) for partition, offset in pairs}
    except ValueError:
        raise Refused(ErrorCode.USAGE, f"Last-Event-ID: {text!r} is not one that this service gave") from None


async def _events(
    services: Services, wanted: ResultFilter, since: Mapping[int, int] | None
) -> AsyncIterator[bytes]:
    """Ends where something would be lost: the client comes back with the last id that it has read."""
    with services.feed.listening() as listener:
        yield f"retry: {RETRY_MS}\nid: {event_id(listener.start if since is None else since)}\n\n".encode()
        try:
            if since is not None:
                async for event in _missed(services, since, listener.start):
                    if wanted.matches(event.result):
                        yield _encoded(event)
            while True:
                live = await listener.next(HEARTBEAT_S)
                if live is None:
                    yield b": still here\n\n"
                elif wanted.matches(live.result):
                    yield _encoded(live)
        except (Dismissed, Interrupted):
            return


class Interrupted(Exception):
    """What was missed cannot be read to its end."""


def _encoded(event: Event) -> bytes:
    return b"event: result\nid: %s\ndata: %s\n\n" % (event_id(event.after).encode(), event.encoded)


async def _missed(services: Services, since: Mapping[int, int], until: Positions) -> AsyncIterator[Event]:
    """What was committed between an event and the listener's begin.

    Raises:
        Interrupted: Kafka does not answer.
    """
    if all(since.get(partition, end) >= end for partition, end in until.items()):
        return
    catching_up = CatchingUp(services.kafka, since, until)
    try:
        while (event := await asyncio.to_thread(catching_up.next)) is not None:
            yield event
    finally:
        catching_up.stop()


class CatchingUp:
    """Reads the results between two places, in a thread of its own."""

    def __init__(self, kafka: KafkaSettings, since: Mapping[int, int], until: Positions) -> None:
        self._kafka = kafka
        self._after = {partition: since.get(partition, end) for partition, end in until.items()}
        self._until = until
        self._found: queue.Queue[Event | Interrupted | None] = queue.Queue(CATCHING_UP)
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="catching up", daemon=True).start()

    def next(self) -> Event | None:
        """The next result; None at the end.

        Raises:
            Interrupted: Kafka does not answer.
        """
        found = self._found.get()
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
        except (AnalysisError, KafkaException) as error:
            self._found.put(Interrupted(str(error)))
        else:
            self._found.put(None)
        finally:
            reader.close()

    def _take(self, message: Message) -> None:
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        result = read_result(message)
        # What lies beyond comes to the listener.
        if offset < self._until[partition] and result is not None:
            self._after[partition] = offset + 1
            self._found.put(Event(result, message.value() or b"", dict(self._after)))
