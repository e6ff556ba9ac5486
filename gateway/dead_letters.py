"""`/api/v1/dead-letters`: what nobody could answer, and publishing it again."""

from collections import Counter
from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway.openapi import json_answer, json_of, problems
from gateway.problems import Refused
from gateway.services import Given
from producers.dead_letters import DeadLetterBox, Letter, LetterId, Replayer, Selection, State
from schemas.errors import ErrorCode

router = APIRouter()

_one_at_a_time = anyio.CapacityLimiter(1)
"""Each reads the whole topic, and of two replays at once one would lose."""


class ShownLetter(msgspec.Struct, frozen=True):
    """A dead letter, and whether it waits, was replayed, or came back too often."""

    id: str
    state: State
    code: str | None
    message: str | None
    component: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    failed_at: str
    replays: int
    size_bytes: int


class DeadLetters(msgspec.Struct, frozen=True):
    """The newest letters that fit, and how many there are of each code."""

    dead_letters: list[ShownLetter]
    counts: dict[str, int]


class Replay(msgspec.Struct, frozen=True):
    """How many letters were published again."""

    published: int


@router.get(
    "/dead-letters",
    response_class=Response,
    responses={
        200: json_of(DeadLetters, "Newest first."),
        **problems(ErrorCode.USAGE, ErrorCode.KAFKA_UNAVAILABLE),
    },
)
async def list_dead_letters(
    services: Given,
    state: Annotated[State | None, Query(description="`waiting`, `replayed` or `set_aside`.")] = None,
    code: Annotated[str | None, Query(description="Only letters with this code.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Letters at most.")] = 100,
) -> Response:
    """Requests that became dead letters, with the reason."""
    box = DeadLetterBox(services.kafka)
    letters: list[Letter] = await _read(box.letters, Selection(code=code))
    found = [letter for letter in letters if state in (None, letter.state)]
    found.sort(key=lambda letter: (letter.reason.failed_at, letter.id), reverse=True)
    counts = dict(Counter(letter.reason.code or "?" for letter in found).most_common())
    answer = DeadLetters([_shown(letter) for letter in found[:limit]], counts)
    return json_answer(answer)


@router.post(
    "/dead-letters/{letter_id}/replay",
    response_class=Response,
    responses={
        200: json_of(Replay, "It is on its topic again; the answer takes the place of the failed one."),
        **problems(ErrorCode.USAGE, ErrorCode.REQUEST_NOT_FOUND, ErrorCode.KAFKA_UNAVAILABLE),
    },
)
async def replay(letter_id: str, services: Given) -> Response:
    """Publishes one letter again where it came from, with its identity: nothing is answered twice."""
    published = await _read(_replay, services.kafka, LetterId.parse(letter_id))
    return json_answer(Replay(published))


def _replay(kafka: Any, letter_id: LetterId) -> int:
    replayer = Replayer(kafka)
    found = replayer.letters(Selection(ids=frozenset({letter_id})))
    if not found:
        raise Refused(ErrorCode.REQUEST_NOT_FOUND, f"there is no dead letter {letter_id}")
    if found[0].state == "replayed":
        raise Refused(ErrorCode.USAGE, f"{letter_id} was published again already")
    replayed = replayer.replay(found, None)
    for _, why in replayed.refused:
        raise Refused(ErrorCode.USAGE, f"{letter_id} cannot be published again: {why}")
    return replayed.published


async def _read(function: Any, *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments, limiter=_one_at_a_time)


def _shown(letter: Letter) -> ShownLetter:
    reason = letter.reason
    assert reason.failed_at is not None
    return ShownLetter(
        id=str(letter.id),
        state=letter.state,
        code=reason.code,
        message=reason.message,
        component=reason.component,
        topic=reason.topic,
        partition=reason.partition,
        offset=reason.offset,
        failed_at=reason.failed_at.isoformat(),
        replays=letter.replays,
        size_bytes=letter.size_bytes,
    )
