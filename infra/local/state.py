"""The stack's folder: who runs, with which secrets, and where the rest of the project finds it."""

import contextlib
import fcntl
import os
import secrets
import shutil
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from infra.local.process import Record
from infra.settings import STACK_FILE, SettingError
from schemas.errors import AnalysisError, ErrorCode

_LOCK_PATIENCE_S = 180.0
_DATA = ("kafka", "s3", "postgres")
_OWN = (*_DATA, "run", "logs", STACK_FILE, "credentials.json")


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Generated at the first start and kept: the data on disk belongs to them."""

    postgres_password: str
    s3_access_key_id: str
    s3_secret_access_key: str
    s3_signing_keys: tuple[str, str, str, str]
    kafka_cluster_id: str


class StackFolder:
    """Paths, process records and secrets below one folder (`.local`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.logs = root / "logs"

    @property
    def exists(self) -> bool:
        """Whether a stack was ever started here."""
        return self._credentials.exists()

    def create(self) -> None:
        """Makes the folder, and the secrets where there are none yet.

        Raises:
            SettingError: the folder holds somebody else's files under the names this one uses.
        """
        foreign = [name for name in _OWN if (self.root / name).exists()]
        if foreign and not self.exists:
            raise SettingError(
                f"LOCAL_DIR: {self.root} is not a folder of this stack, but has {', '.join(foreign)} in it; "
                "choose an empty folder"
            )
        # Others may pass through: PostgreSQL refuses root, and its user has to reach its data.
        self.root.mkdir(parents=True, exist_ok=True)
        # Before anything else, since by this file a folder that was begun is known as this stack's.
        self.credentials()
        for folder in (self.run, self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)

    def data(self, name: str) -> Path:
        """Where a component keeps its data."""
        return self.root / name

    def log(self, name: str) -> Path:
        """The log file of a component."""
        return self.logs / f"{name}.log"

    def ready_file(self, name: str) -> Path:
        """The file that a process of the application writes when it is ready."""
        return self.run / f"{name}.ready"

    def record(self, name: str) -> Record | None:
        """The process that was last started for a component; None after it was stopped."""
        try:
            return msgspec.json.decode((self.run / f"{name}.json").read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def recorded(self) -> list[str]:
        """The components that were started and not stopped since (they may have died)."""
        return sorted(path.stem for path in self.run.glob("*.json"))

    def keep(self, name: str, record: Record) -> None:
        """Remembers a component's process."""
        write_private(self.run / f"{name}.json", msgspec.json.encode(record))

    def forget(self, name: str) -> None:
        """Forgets a component's process."""
        (self.run / f"{name}.json").unlink(missing_ok=True)
        self.ready_file(name).unlink(missing_ok=True)

    def credentials(self) -> Credentials:
        """The stack's secrets, generated where there are none yet.

        Raises:
            SettingError: they cannot be read: another user's, say.
        """
        try:
            return msgspec.json.decode(self._credentials.read_bytes(), type=Credentials)
        except FileNotFoundError:
            made = _generate()
        except OSError as error:
            raise _refusal(self._credentials, error) from None
        except msgspec.DecodeError as error:
            raise SettingError(f"LOCAL_DIR: {self._credentials} holds no credentials: {error}") from None
        write_private(self._credentials, msgspec.json.format(msgspec.json.encode(made)))
        return made

    def write_environment(self, values: Mapping[str, str]) -> None:
        """Writes the file from which every component reads how to reach the stack."""
        lines = [
            "# Written by `analysis up`; the environment has precedence.",
            *map("=".join, values.items()),
        ]
        write_private(self.root / STACK_FILE, ("\n".join(lines) + "\n").encode())

    def erase(self) -> None:
        """Deletes data, logs and secrets; files that the stack did not make stay."""
        if not self.exists:
            return
        for name in _OWN:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lets one command at a time change the stack; another waits for it.

        Raises:
            SettingError: the folder is not ours to write to.
            AnalysisError: the other command did not end in three minutes.
        """
        with self._open_lock() as lock:
            _wait_for(lock.fileno(), self.root)
            yield

    def _open_lock(self) -> IO[str]:
        file = self.root / "lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return file.open("a")
        except OSError as error:
            raise _refusal(file, error) from None

    @property
    def _credentials(self) -> Path:
        return self.root / "credentials.json"


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file at once, readable by its owner alone."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def kafka_uuid() -> str:
    """A random id as Kafka writes them: base64url, not beginning with `-` as an option would."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _refusal(file: Path, error: OSError) -> SettingError:
    owner = ""
    with contextlib.suppress(OSError):
        nearest = next(place for place in (file, *file.parents) if place.exists())
        owner = f", {nearest} belongs to user {nearest.stat().st_uid}"
    return SettingError(f"LOCAL_DIR: cannot open {file}: {error.strerror}{owner}")


def _generate() -> Credentials:
    def key() -> str:
        return secrets.token_hex(32)

    return Credentials(
        postgres_password=secrets.token_urlsafe(24),
        s3_access_key_id=secrets.token_hex(10).upper(),
        s3_secret_access_key=secrets.token_urlsafe(30),
        s3_signing_keys=(key(), key(), key(), key()),
        kafka_cluster_id=kafka_uuid(),
    )


def _wait_for(descriptor: int, root: Path) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise AnalysisError(
                    ErrorCode.STACK_START_FAILED, f"another command has held {root / 'lock'} for too long"
                ) from None
        time.sleep(0.1)
