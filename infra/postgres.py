"""PostgreSQL connections and transactions."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 (psycopg2 names its class in lower case)
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extensions import parse_dsn

from infra.settings import DatabaseSettings, SettingError
from schemas.errors import AnalysisError, ErrorCode

__all__ = ["Connection", "Cursor", "DatabaseUnavailable", "address", "connect", "transaction"]

# A server that vanished without a word is noticed in about 10 s, by an idle connection and a busy one alike.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "client_encoding": "UTF8",
}


class DatabaseUnavailable(AnalysisError):
    """No PostgreSQL server accepts a connection at DATABASE_URL."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            ErrorCode.DATABASE_UNAVAILABLE,
            f"cannot connect to PostgreSQL at {where} (DATABASE_URL): {reason}; "
            "`analysis up` starts a local one",
        )
        self.where = where
        self.reason = reason


def connect(settings: DatabaseSettings, application_name: str = "analysis") -> Connection:
    """Opens a connection; what the URL itself sets (`?connect_timeout=…`, `?sslmode=…`) wins.

    Raises:
        SettingError: DATABASE_URL is not a libpq connection string.
        DatabaseUnavailable: no server accepts the connection; the message never holds the password.
    """
    parameters = {"application_name": application_name, **_DEFAULTS, **_parse(settings)}
    try:
        connection: Connection = psycopg2.connect(**parameters)
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(address(settings), _first_line(error)) from None
    return connection


def address(settings: DatabaseSettings) -> str:
    """`host:port/database` of DATABASE_URL, fit to be shown."""
    parts = _parse(settings)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port', '5432')}/{parts.get('dbname', '')}"


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Cursor]:
    """Runs a block in one transaction: committed at its end, rolled back where it raises.

    Unlike psycopg2's own, it lets the first error through where the connection broke: the rollback that
    cannot reach the server any more would hide it.
    """
    try:
        with connection.cursor() as cursor:
            yield cursor
        connection.commit()
    except BaseException:
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()
        raise


def _parse(settings: DatabaseSettings) -> dict[str, str]:
    try:
        return parse_dsn(settings.url)
    except psycopg2.ProgrammingError:
        # libpq's own words may quote the password.
        raise SettingError("DATABASE_URL: not a libpq connection string (its value is not shown)") from None


def _first_line(error: psycopg2.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
