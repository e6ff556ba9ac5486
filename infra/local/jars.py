"""Kafka's jars: resolved once into a lock, then downloaded and verified from it.

`python -m infra.local.jars` resolves them anew with jgo and writes the lock. Installing is done here, since
jgo does not verify a lock, and leaves a half-written file behind when a download breaks off.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from infra.settings import local_dir
from schemas.errors import AnalysisError, ErrorCode

LOCK_FILE = Path(__file__).with_name("kafka-jars.json")
ROOTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!")
"""What is resolved; `!` keeps the second from managing, and lowering, the versions of the first's jars."""


class Jar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of the lock."""

    group: str
    artifact: str
    version: str
    classifier: str = ""
    size_bytes: int
    sha256: str

    @property
    def filename(self) -> str:
        """The file's name in a Maven repository, and in our cache."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.jar"

    @property
    def repository_path(self) -> str:
        """The file's path below a Maven repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.filename}"


class JarLock(msgspec.Struct, frozen=True, kw_only=True):
    """The committed list of jars, and what it was resolved from."""

    roots: tuple[str, ...]
    jars: tuple[Jar, ...]


def read_lock(path: Path = LOCK_FILE) -> JarLock:
    """The committed lock."""
    return msgspec.json.decode(path.read_bytes(), type=JarLock)


def cache_folder() -> Path:
    """Where jars are kept for every checkout of this user; the stack's folder for a user without a home."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # HOME is not set, and the user has no account
        return local_dir() / "jars"
    folder = base / "analysis" / "jars"
    return folder if _usable(folder) else local_dir() / "jars"


def install(
    folder: Path | None = None, lock: JarLock | None = None, repositories: Sequence[str] = ()
) -> list[Path]:
    """Makes sure that every jar of the lock is in `folder` and is the right one; returns their paths.

    A file with another content, a truncated one say, is downloaded again.

    Args:
        folder: the user's cache by default.
        lock: the committed one by default.
        repositories: Maven repositories to ask in turn; by default those that jgo knows.

    Raises:
        DownloadFailed: a jar could not be had.
        ChecksumMismatch: what was downloaded is not what the lock names.
        AnalysisError: the folder cannot be made or written to.
    """
    target = folder or cache_folder()
    try:
        return _install(target, (lock or read_lock()).jars, repositories)
    except OSError as error:
        raise AnalysisError(
            ErrorCode.STACK_DOWNLOAD_FAILED,
            f"cannot keep Kafka's jars in {target} ({error}); XDG_CACHE_HOME names another cache",
        ) from None


def _install(target: Path, jars: Sequence[Jar], repositories: Sequence[str]) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda jar: sha256(target / jar.filename), jars))
    missing = [jar for jar, checksum in zip(jars, found, strict=True) if checksum != jar.sha256]
    if missing:
        # Slow to import, and needed once.
        from infra.local.download import download

        download(missing, target, repositories)
    return sorted(target / jar.filename for jar in jars)


def _usable(folder: Path) -> bool:
    """Whether we can write there, or need not: a cache that is read-only may be complete."""
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
        complete = place == folder and all((folder / jar.filename).exists() for jar in read_lock().jars)
    except OSError:
        return False
    return complete or (place.is_dir() and os.access(place, os.W_OK | os.X_OK))


def sha256(path: Path) -> str | None:
    """The checksum of a file in hex; None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def resolve() -> JarLock:
    """Resolves the roots as Maven would, downloading every jar into a folder of its own to measure it."""
    from jgo.maven import MavenContext, PythonResolver

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(folder))
        roots = [context.create_dependency(root) for root in ROOTS]
        inputs, transitive = context.resolver.resolve(roots)
        jars = {jar.filename: jar for jar in (_locked(found.artifact) for found in [*inputs, *transitive])}
    return JarLock(roots=ROOTS, jars=tuple(jars[name] for name in sorted(jars)))


def write_lock(lock: JarLock, path: Path = LOCK_FILE) -> None:
    """Writes the lock, readable and with a stable order."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(lock)) + b"\n")


def _locked(artifact: Any) -> Jar:
    path: Path = artifact.resolve()
    return Jar(
        group=artifact.groupId,
        artifact=artifact.artifactId,
        version=artifact.version,
        classifier=artifact.classifier,
        size_bytes=path.stat().st_size,
        sha256=sha256(path) or "",
    )


if __name__ == "__main__":
    write_lock(resolve())
