import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from infra.local import jars
from infra.local.jars import Jar, JarLock
from schemas.errors import AnalysisError, ErrorCode

CONTENT = b"the bytes of a jar" * 1000


def jar_of(content: bytes, artifact: str = "thing") -> Jar:
    checksum = hashlib.sha256(content).hexdigest()
    return Jar(
        group="org.example", artifact=artifact, version="1.0", size_bytes=len(content), sha256=checksum
    )


JAR = jar_of(CONTENT)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Requests are no news in a test."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The folder of a Maven repository that holds one jar."""
    path = tmp_path / "repository" / JAR.repository_path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "repository"


@pytest.fixture
def address(repository: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(repository))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def install(folder: Path, address: str, *wanted: Jar) -> list[Path]:
    return jars.install(folder, JarLock(roots=(), jars=wanted), [address])


def test_jars_are_downloaded_once_with_a_fixed_time(tmp_path: Path, address: str, repository: Path) -> None:
    (path,) = install(tmp_path / "cache", address, JAR)
    assert path.read_bytes() == CONTENT
    inode, modified = path.stat().st_ino, path.stat().st_mtime
    (repository / JAR.repository_path).unlink()
    assert install(tmp_path / "cache", address, JAR) == [path]
    assert path.stat().st_ino == inode
    assert modified == 1_577_836_800


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"", CONTENT + b"x"])
def test_a_damaged_jar_in_the_cache_is_replaced(tmp_path: Path, address: str, damaged: bytes) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / JAR.filename).write_bytes(damaged)
    (path,) = install(cache, address, JAR)
    assert path.read_bytes() == CONTENT


def test_a_jar_that_is_not_the_locked_one_is_refused(tmp_path: Path, address: str, repository: Path) -> None:
    (repository / JAR.repository_path).write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(AnalysisError, match=JAR.sha256) as caught:
        install(tmp_path / "cache", address, JAR)
    assert caught.value.code == ErrorCode.STACK_CHECKSUM_MISMATCH
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_jar_that_nobody_has_is_named(tmp_path: Path, address: str) -> None:
    with pytest.raises(AnalysisError, match=r"other-1\.0\.jar.*404") as caught:
        install(tmp_path / "cache", address, JAR, jar_of(b"other", "other"))
    assert caught.value.code == ErrorCode.STACK_DOWNLOAD_FAILED
    assert "other-1.0.jar" not in {path.name for path in (tmp_path / "cache").iterdir()}


def test_the_second_repository_is_asked_for_what_the_first_lacks(tmp_path: Path, address: str) -> None:
    lock = JarLock(roots=(), jars=(JAR,))
    assert jars.install(tmp_path / "cache", lock, [f"{address}/nothing-here", address])


def test_the_committed_lock_is_complete() -> None:
    lock = jars.read_lock()
    assert lock.roots == jars.ROOTS
    names = {jar.filename for jar in lock.jars}
    assert {"kafka_2.13-4.4.0.jar", "kafka-clients-4.4.0.jar", "log4j-slf4j-impl-2.25.5.jar"} <= names
    assert len(names) == len(lock.jars)
    assert all(len(jar.sha256) == 64 and jar.size_bytes for jar in lock.jars)


def test_the_lock_is_written_as_it_is_committed(tmp_path: Path) -> None:
    jars.write_lock(jars.read_lock(), tmp_path / "lock.json")
    assert (tmp_path / "lock.json").read_bytes() == jars.LOCK_FILE.read_bytes()


def test_the_cache_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_folder() == tmp_path / "analysis" / "jars"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert jars.cache_folder() == tmp_path / "home" / ".cache" / "analysis" / "jars"


def test_a_cache_that_cannot_be_used_is_replaced_by_the_stacks_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path / "stack"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert jars.cache_folder() == tmp_path / "stack" / "jars"
    # No home: not in the environment, and no account of this user.
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 5)
    assert jars.cache_folder() == tmp_path / "stack" / "jars"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, address: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match=str(tmp_path / "file")) as caught:
        install(tmp_path / "file" / "jars", address, JAR)
    assert caught.value.code == ErrorCode.STACK_DOWNLOAD_FAILED


def test_a_classifier_is_part_of_the_name() -> None:
    native = msgspec.structs.replace(JAR, classifier="linux")
    assert native.repository_path == "org/example/thing/1.0/thing-1.0-linux.jar"
