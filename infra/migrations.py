"""Numbered SQL migrations: applied in order, each in one transaction, by one process at a time.

A few lines of our own because the candidate, yoyo-migrations, identifies a migration by its file name
alone (an edited file goes unnoticed), keeps a lock table that a crash leaves locked, and splits and
connects in its own way, which is not libpq's.
"""

import hashlib
import logging
import sys

from infra.postgres import Connection, connect, transaction
from infra.settings import DatabaseSettings, load
from infra.sql import migrations, statements
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

_SQL = statements("schema_migrations")
LOCK_KEY = 0x616E_616C_7973_6901
"""Names the advisory lock of migrations: "analysi" and a number."""


class DatabaseNotMigrated(AnalysisError):
    """The database lacks migrations that this release needs."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            ErrorCode.DATABASE_NOT_MIGRATED,
            f"the database lacks the migrations {', '.join(missing)}; `analysis migrate` applies them",
        )
        self.missing = missing


class MigrationChanged(AnalysisError):
    """A migration's file is not the one that the database was migrated with."""

    def __init__(self, name: str) -> None:
        super().__init__(
            ErrorCode.DATABASE_MIGRATION_CHANGED,
            f"the migration {name} was changed after it had been applied to this database; "
            "put its file back and write a new migration",
        )
        self.name = name


def migrate(settings: DatabaseSettings) -> list[str]:
    """Applies what is missing and returns its names; where another process migrates, waits for it first.

    Raises:
        DatabaseUnavailable: no server accepts the connection.
        MigrationChanged: the file of an applied migration has been edited.
    """
    connection = connect(settings, "analysis migrate")
    try:
        with transaction(connection) as cursor:
            cursor.execute(_SQL["lock"], {"key": LOCK_KEY})
            cursor.execute(_SQL["create_history"])
        missing = _missing(connection)
        for name, text in missing.items():
            _apply(connection, name, text)
        return list(missing)
    finally:
        connection.close()


def require_migrated(connection: Connection) -> None:
    """Checks that every migration of this release is applied; later ones do no harm.

    Raises:
        DatabaseNotMigrated: some are missing.
        MigrationChanged: the file of an applied migration has been edited.
    """
    with transaction(connection) as cursor:
        cursor.execute(_SQL["has_history"])
        row = cursor.fetchone()
    missing = _missing(connection) if row and row[0] else migrations()
    if missing:
        raise DatabaseNotMigrated(list(missing))


def migrate_command() -> None:
    """Bring the database's tables up to date."""
    applied = migrate(load(DatabaseSettings))
    for name in applied:
        print(name)
    print(f"migrations applied: {len(applied)}" if applied else "the database is up to date", file=sys.stderr)


def _missing(connection: Connection) -> dict[str, str]:
    with transaction(connection) as cursor:
        cursor.execute(_SQL["applied"])
        applied = dict(cursor.fetchall())
    found = migrations()
    for name in found.keys() & applied.keys():
        if applied[name] != _checksum(found[name]):
            raise MigrationChanged(name)
    return {name: text for name, text in found.items() if name not in applied}


def _apply(connection: Connection, name: str, text: str) -> None:
    with transaction(connection) as cursor:
        cursor.execute(text)
        cursor.execute(_SQL["record"], {"name": name, "checksum": _checksum(text)})
    logger.info("migration %s applied", name)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
