"""Which failures are the data's fault, and which are worth waiting for."""

import pickle

import psycopg2
import pytest
from confluent_kafka import KafkaError, KafkaException
from psycopg2 import errors

from consumers.sink.backoff import Backoff
from consumers.sink.errors import DeadLettersUndelivered, is_outage, is_refusal
from infra.postgres import DatabaseUnavailable


class WithState(psycopg2.OperationalError):
    """An error as the server sends it; psycopg2 lets nobody else set the code."""

    pgcode = "54000"


@pytest.mark.parametrize(
    "error",
    [
        WithState("index row size exceeds the maximum"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"),
    ],
)
def test_bad_data_is_refused_and_not_waited_for(error: Exception) -> None:
    assert is_refusal(error)
    assert not is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg2.OperationalError("server closed the connection unexpectedly"),
        psycopg2.InterfaceError("connection already closed"),
        errors.AdminShutdown("terminating connection"),
        errors.ReadOnlySqlTransaction("a standby"),
        errors.DiskFull("no space left"),
        errors.DeadlockDetected("deadlock detected"),
        DatabaseUnavailable("somewhere", "connection refused"),
        DeadLettersUndelivered(1, "no answer yet"),
        KafkaException(KafkaError(KafkaError._TIMED_OUT)),
        KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)),
    ],
)
def test_an_outage_is_waited_for(error: Exception) -> None:
    assert is_outage(error)
    assert not is_refusal(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.UndefinedTable("results"),
        errors.SyntaxError("SELEC"),
        KafkaException(KafkaError(KafkaError._INVALID_ARG)),
        ValueError("a bug"),
    ],
)
def test_a_bug_is_neither(error: Exception) -> None:
    assert not is_outage(error)
    assert not is_refusal(error)


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DeadLettersUndelivered(3, "no answer yet")))
    assert (error.count, error.message) == (3, DeadLettersUndelivered(3, "no answer yet").message)


def test_backoff_waits_longer_up_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(first_s=1000.0, most_s=4000.0)
    assert not backoff.waiting
    for _ in range(2000):
        backoff.fail()
    assert backoff.failing
    assert backoff.waiting
    backoff.succeed()
    assert not backoff.failing
    assert not backoff.waiting
