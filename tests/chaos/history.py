"""What a run left behind, as its invariants look at it."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

NO_TIME = datetime.min
Kind = Literal["ok", "failed", "dead"]


class Expectation(msgspec.Struct, frozen=True):
    """The oracle's answer to a record."""

    kind: Kind
    detail: str
    """The labels that are found, or the failure's code."""


class Sent(msgspec.Struct, frozen=True):
    """A record of the images topic, as it lies there."""

    request_id: str
    partition: int
    offset: int
    expected: Expectation


class Answered(msgspec.Struct, frozen=True):
    """A committed result; its partition and its offset on the results topic, and what it says."""

    partition: int
    offset: int
    request_id: str
    source_partition: int
    source_offset: int
    answer: Expectation
    analyzed_at: datetime = NO_TIME
    """Tells an answer from another one to the same request that was aborted."""


class Buried(msgspec.Struct, frozen=True):
    """A committed dead letter of the images topic."""

    source_partition: int
    source_offset: int
    code: str


class Row(msgspec.Struct, frozen=True):
    """A row of the results table."""

    request_id: str
    source_partition: int
    source_offset: int
    answer: Expectation
    analyzed_at: datetime = NO_TIME


class Look(msgspec.Struct, frozen=True):
    """A sample of the sink's offsets while the run was on."""

    at: datetime
    next_offsets: dict[int, int]


class Recovery(msgspec.Struct, frozen=True):
    """How long it took, once a fault was over, until the next new answer was committed."""

    fault: str
    at_s: float
    seconds: float
    target_s: float
    """What `docs/reliability.md` promises."""
    bound_s: float
    """What no run may exceed."""


class History(msgspec.Struct, kw_only=True):
    """Everything that a run left behind."""

    sent: list[Sent]
    acknowledged: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """Partition and offset of every record that the publisher was told is stored."""
    answered: list[Answered]
    buried: list[Buried]
    rows: list[Row]
    looks: list[Look] = msgspec.field(default_factory=list)
    committed: dict[int, int] = msgspec.field(default_factory=dict)
    """The analyzer group's committed offset of each partition of the images topic, at the end."""
    result_ends: dict[int, int] = msgspec.field(default_factory=dict)
    """The offset after the last result of each partition of the results topic."""
    recoveries: list[Recovery] = msgspec.field(default_factory=list)


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
