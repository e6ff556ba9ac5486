"""PostgreSQL for many requests at once: a few connections, each used by one thread at a time."""

import queue
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import psycopg2
import psycopg2.errors

from gateway.problems import Refused
from infra.postgres import Connection, Cursor, DatabaseUnavailable, address, connect, transaction
from infra.settings import DatabaseSettings
from schemas.errors import ErrorCode

T = TypeVar("T")

WAIT_S = 5.0
"""How long a request waits for a connection before it is told to come back."""


class Database:
    """A pool of connections, made when they are first needed and again after they broke.

    Args:
        size: connections at most.
        statement_timeout_s: longer queries are cancelled.
    """

    def __init__(self, settings: DatabaseSettings, size: int, statement_timeout_s: float) -> None:
        self._settings = settings
        self._statement_timeout_ms = int(statement_timeout_s * 1000)
        self._idle: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        self._places = anyio.CapacityLimiter(size)
        self._threads = anyio.CapacityLimiter(size)
        for _ in range(size):
            self._idle.put(None)

    async def read(self, query: Callable[[Cursor], T]) -> T:
        """Runs a query in a transaction that writes nothing, in a thread of its own.

        Raises:
            DatabaseUnavailable: the server is away, or too busy to answer in time.
            Refused: a value of the query's is none that a column could hold.
        """
        token = object()
        try:
            with anyio.fail_after(WAIT_S):
                await self._places.acquire_on_behalf_of(token)
        except TimeoutError:
            raise DatabaseUnavailable(address(self._settings), "all connections are in use") from None
        try:
            return await anyio.to_thread.run_sync(self._read, query, limiter=self._threads)
        finally:
            self._places.release_on_behalf_of(token)

    def _read(self, query: Callable[[Cursor], T]) -> T:
        connection = self._idle.get_nowait()
        try:
            if connection is None or connection.closed:
                connection = self._connect()
            with transaction(connection) as cursor:
                return query(cursor)
        except (ValueError, psycopg2.DataError) as error:
            # A NUL in a text, a number beyond its column: the caller's.
            raise Refused(ErrorCode.USAGE, str(error).strip().partition("\n")[0]) from None
        except psycopg2.errors.UndefinedTable:
            what = "the database has no tables yet; `analysis migrate` makes them"
            raise Refused(ErrorCode.DATABASE_NOT_MIGRATED, what) from None
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            # A query that was cancelled, or a connection that broke: a new one is good after both.
            _close(connection)
            connection = None
            reason = str(error).strip().partition("\n")[0]
            raise DatabaseUnavailable(address(self._settings), reason) from None
        finally:
            self._idle.put(connection)

    def _connect(self) -> Connection:
        connection = connect(self._settings, "analysis gateway")
        connection.set_session(readonly=True)
        with transaction(connection) as cursor:
            cursor.execute("SET statement_timeout = %s", (self._statement_timeout_ms,))
        return connection

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while not self._idle.empty():
            _close(self._idle.get_nowait())


def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection.close()
