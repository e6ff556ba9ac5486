"""Downloads of the local stack: several at a time, verified, and in place only when whole."""

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from jgo.maven import MavenContext
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from infra.local.jars import LOCK_FILE, Jar
from schemas.errors import AnalysisError, ErrorCode

_THREADS = 4
_TRIES = 4
_TIMEOUT_S = 30
_CHUNK_BYTES = 64 * 1024
# The JVM's class data archives compare modification times, so a jar has the same one wherever it came from.
_MODIFIED = 1_577_836_800


class DownloadFailed(AnalysisError):
    """A file could not be downloaded."""

    def __init__(self, filename: str, reason: str) -> None:
        super().__init__(ErrorCode.STACK_DOWNLOAD_FAILED, f"cannot download {filename}: {reason}")


class ChecksumMismatch(AnalysisError):
    """A downloaded file is not the one that the lock names."""

    def __init__(self, jar: Jar, found: str) -> None:
        super().__init__(
            ErrorCode.STACK_CHECKSUM_MISMATCH,
            f"{jar.filename} was downloaded with sha256 {found}, but {LOCK_FILE.name} names {jar.sha256}; "
            "the file was not kept",
        )


def download(jars: Sequence[Jar], folder: Path, repositories: Sequence[str] = ()) -> None:
    """Downloads jars into a folder, with a progress bar on a terminal.

    Args:
        repositories: Maven repositories to ask in turn; by default those that jgo knows.

    Raises:
        DownloadFailed: no repository had a jar, or none answered.
        ChecksumMismatch: what came is not what the lock names.
    """
    sources = repositories or tuple(MavenContext().remote_repos.values())
    columns = (TextColumn("downloading Kafka"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, requests.Session() as session:
        task = progress.add_task("", total=sum(jar.size_bytes for jar in jars))
        downloader = _Downloader(session, sources, folder, progress, task)
        with ThreadPoolExecutor(_THREADS) as threads:
            started = [threads.submit(downloader.fetch, jar) for jar in jars]
            try:
                for each in started:
                    each.result()
            except BaseException:
                downloader.stop.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise


class _Downloader:
    def __init__(
        self,
        session: requests.Session,
        sources: Sequence[str],
        folder: Path,
        progress: Progress,
        task: TaskID,
    ) -> None:
        # One session: each new one reads the whole bundle of certificates, which costs more than a jar.
        self._session = session
        self._sources = sources
        self._folder = folder
        self._progress = progress
        self._task = task
        self.stop = threading.Event()

    def fetch(self, jar: Jar) -> None:
        partial = self._folder / f".{jar.filename}.{os.getpid()}"
        try:
            found = self._fetch_from_any(jar, partial)
            if found != jar.sha256:
                raise ChecksumMismatch(jar, found)
            os.utime(partial, (_MODIFIED, _MODIFIED))
            partial.replace(self._folder / jar.filename)
        finally:
            partial.unlink(missing_ok=True)

    def _fetch_from_any(self, jar: Jar, partial: Path) -> str:
        reasons: list[requests.RequestException] = []
        for attempt in range(_TRIES):
            if self.stop.wait(attempt and 2.0**attempt / 2):
                break
            reasons = []
            for source in self._sources:
                try:
                    return self._fetch_from(f"{source}/{jar.repository_path}", partial)
                except requests.RequestException as error:
                    reasons.append(error)
            if all(map(_is_final, reasons)):
                break
        raise DownloadFailed(jar.filename, "; ".join(map(str, reasons)) if reasons else "interrupted")

    def _fetch_from(self, url: str, partial: Path) -> str:
        digest = hashlib.sha256()
        received = 0
        try:
            with (
                self._session.get(url, stream=True, timeout=_TIMEOUT_S) as response,
                partial.open("wb") as file,
            ):
                response.raise_for_status()
                for chunk in response.iter_content(_CHUNK_BYTES):
                    if self.stop.is_set():
                        raise requests.RequestException("interrupted")
                    received += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
                    self._progress.advance(self._task, len(chunk))
        except requests.RequestException:
            self._progress.advance(self._task, -received)
            raise
        return digest.hexdigest()


def _is_final(error: requests.RequestException) -> bool:
    """Whether the server said that it will not give the file, now or later."""
    return error.response is not None and 400 <= error.response.status_code < 500
