"""What goes wrong in the sink, sorted by what to do about it."""

from collections.abc import Mapping

import psycopg2
from confluent_kafka import KafkaException

from infra.kafka import is_transient
from schemas.errors import AnalysisError, ErrorCode

# SQLSTATE classes that blame the data: data exception, integrity constraint, program limit exceeded (an
# index entry that is too long, say).
_REFUSING_CLASSES = ("22", "23", "54")

_OUTAGE_CODES = (ErrorCode.DATABASE_UNAVAILABLE, ErrorCode.KAFKA_UNAVAILABLE, ErrorCode.TOPIC_NOT_FOUND)


class StaleOffsets(Exception):
    """Another sink has moved these partitions on; `stored` holds what PostgreSQL has now."""

    def __init__(self, stored: Mapping[int, int]) -> None:
        super().__init__(f"stored offsets are {dict(stored)}")
        self.stored = stored


class DeadLettersUndelivered(AnalysisError):
    """The broker did not acknowledge the dead letters in time."""

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(
            ErrorCode.KAFKA_UNAVAILABLE, f"{count} dead letters were not acknowledged by the broker: {reason}"
        )
        self.count = count
        self.reason = reason


def is_refusal(error: Exception) -> bool:
    """Whether the data is to blame: trying the same rows again cannot succeed."""
    if isinstance(error, UnicodeEncodeError):
        return True
    return isinstance(error, psycopg2.Error) and (error.pgcode or "")[:2] in _REFUSING_CLASSES


def is_outage(error: Exception) -> bool:
    """Whether waiting may help: a server that is away, starting, full, read-only or in a deadlock.

    What is left, a wrong statement or a missing table, is a bug or a job for `analysis migrate`.
    """
    if isinstance(error, psycopg2.ProgrammingError | psycopg2.NotSupportedError) or is_refusal(error):
        return False
    if isinstance(error, psycopg2.Error):
        return True
    if isinstance(error, KafkaException):
        return is_transient(error.args[0])
    return isinstance(error, AnalysisError) and error.code in _OUTAGE_CODES
