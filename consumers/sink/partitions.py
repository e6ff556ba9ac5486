"""A partition for each day: made ahead of time and on demand, dropped after the retention time."""

import contextlib
import logging
import re
import time as clock
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import psycopg2
from psycopg2 import sql

from infra.postgres import Connection, Cursor, transaction
from infra.sql import statements

logger = logging.getLogger(__name__)

AHEAD_DAYS = 2
"""Partitions made ahead: with hourly tries, dozens may fail before a row goes to the DEFAULT partition."""

EXPIRED_AT_ONCE = 5_000
"""Results that one transaction deletes from the DEFAULT partition at most."""

EXPIRING_S = 1.0
"""How long a round goes on deleting: the sink reads nothing meanwhile."""

AGAIN_S = 60.0
"""How long a change that was refused is left alone on the write path."""

# Made in this order and dropped in the other, so that a result never lies in a partition of a day whose
# detections have none: rows of the DEFAULT partition are expired by their result.
_TABLES = ("detections", "results")
_DAY = re.compile(r"_(\d{8})$")
_LOCK_KEY = 0x616E_616C_7973_6902
"""Names the advisory lock of partition changes: "analysi" and a number."""
_SQL = statements("partitions")


class Partitions:
    """The day partitions of `results` and `detections`.

    Days from `retention_days` ago to AHEAD_DAYS from now have one. Any other day is left to the DEFAULT
    partition: a publisher may send any timestamp, and must not make partitions without end by it.
    """

    def __init__(self, retention_days: int) -> None:
        self._retention_days = retention_days
        self._made: set[date] = set()
        self._refused_until_s = 0.0

    def maintain(self, connection: Connection) -> bool:
        """Makes what is needed soon and drops what is old.

        Returns:
            Whether all is done; False where partitions were in use or more rows are left to expire.
        """
        today = _today(connection)
        try:
            self._make(connection, [today + timedelta(days=ahead) for ahead in range(AHEAD_DAYS + 1)])
            self._drop(connection, before=self._first(today))
            return self._expire_default(connection)
        except psycopg2.Error as error:
            _let_pass(connection, error)
            return False

    def ensure(self, connection: Connection, days: Collection[date]) -> None:
        """Makes the partitions of these days where they may have one, each in a transaction of its own.

        Where that fails, the rows go to the DEFAULT partition, and a later round moves them.
        """
        unknown = set(days) - self._made
        if not unknown or clock.monotonic() < self._refused_until_s:
            return
        today = _today(connection)
        last = today + timedelta(days=AHEAD_DAYS)
        try:
            self._make(connection, [day for day in sorted(unknown) if self._first(today) <= day <= last])
        except psycopg2.Error as error:
            _let_pass(connection, error)
            self._refused_until_s = clock.monotonic() + AGAIN_S

    def _first(self, today: date) -> date:
        return today - timedelta(days=self._retention_days)

    def _make(self, connection: Connection, days: Iterable[date]) -> None:
        for day in days:
            for table in _TABLES:
                _make_partition(connection, table, day)
            self._made.add(day)

    def _drop(self, connection: Connection, before: date) -> None:
        for table in reversed(_TABLES):
            for day in sorted(day for day in _existing_days(connection, table) if day < before):
                _drop_partition(connection, table, day)
        self._made = {day for day in self._made if day >= before}

    def _expire_default(self, connection: Connection) -> bool:
        """Deletes for EXPIRING_S at most; returns whether only what another sink has locked is left."""
        until_s = clock.monotonic() + EXPIRING_S
        count = EXPIRED_AT_ONCE
        while count == EXPIRED_AT_ONCE and clock.monotonic() < until_s:
            with transaction(connection) as cursor:
                limits = {"retention_days": self._retention_days, "limit": EXPIRED_AT_ONCE}
                cursor.execute(_SQL["expire_default"], limits)
                count = _one(cursor)
            if count:
                logger.info("deleted %d results with timestamps outside the retention time", count)
        return count < EXPIRED_AT_ONCE


def _let_pass(connection: Connection, error: psycopg2.Error) -> None:
    """Storing rows goes on without a partition, be it locked or forbidden, but not without a connection."""
    if connection.closed:
        raise error
    logger.warning("partitions could not be changed; trying again later: %s", str(error).strip())


def partition_name(table: str, day: date) -> str:
    """The name of a table's partition for a day, such as `results_20261123`."""
    return f"{table}_{day:%Y%m%d}"


def _make_partition(connection: Connection, table: str, day: date) -> None:
    if day in _existing_days(connection, table):
        return
    with transaction(connection) as cursor:
        cursor.execute(_SQL["lock"], {"key": _LOCK_KEY})
        if day in _days(cursor, table):
            return
        cursor.execute(_statement("create", table, day))
    logger.info("made the partition %s", partition_name(table, day))


def _drop_partition(connection: Connection, table: str, day: date) -> None:
    with transaction(connection) as cursor:
        cursor.execute(_SQL["lock"], {"key": _LOCK_KEY})
        if day not in _days(cursor, table):
            return
        cursor.execute(_statement("drop", table, day))
    logger.info("dropped the partition %s: older than the retention time", partition_name(table, day))


def _statement(name: str, table: str, day: date) -> sql.Composed:
    lower = datetime.combine(day, time.min, UTC)
    return sql.SQL(_SQL[name]).format(
        partition=sql.Identifier(partition_name(table, day)),
        parent=sql.Identifier(table),
        default=sql.Identifier(f"{table}_default"),
        lower=sql.Literal(lower.isoformat()),
        upper=sql.Literal((lower + timedelta(days=1)).isoformat()),
    )


def _existing_days(connection: Connection, table: str) -> set[date]:
    with transaction(connection) as cursor:
        return _days(cursor, table)


def _days(cursor: Cursor, table: str) -> set[date]:
    cursor.execute(_SQL["partitions"], {"parent": table})
    days = set()
    for (name,) in cursor.fetchall():
        match = _DAY.search(name)
        with contextlib.suppress(ValueError):
            days |= {date.fromisoformat(match[1])} if match else set()
    return days


def _today(connection: Connection) -> date:
    """The day by the database's clock, which all sinks share."""
    with transaction(connection) as cursor:
        cursor.execute(_SQL["today"])
        today: date = _one(cursor)
    return today


def _one(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row[0]
