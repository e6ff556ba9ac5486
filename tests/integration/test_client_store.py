"""Files in the object store: streamed, checked, and stored once."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from infra.s3 import S3Unavailable, make_client
from infra.settings import S3Settings
from producers import store
from producers.errors import BucketNotFound, InputNotFound, UploadDenied, UploadRefused
from producers.store import ImageStore
from tests.producer_support import PROJECT
from tests.stack import RunningStack, unique

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

LARGE_BYTES = 300 * 2**20
ALLOWED_GROWTH_KIB = 40 * 1024


@pytest.fixture
def s3(stack: RunningStack) -> S3Settings:
    """The store, with an uploads bucket of this test's own."""
    own = msgspec.structs.replace(stack.s3, uploads_bucket=unique("uploads"))
    make_client(own).create_bucket(Bucket=own.uploads_bucket)
    return own


class PutCounter:
    """Counts the objects that a client really writes."""

    def __init__(self, client: "S3Client") -> None:
        self.puts = 0
        client.meta.events.register("before-call.s3.PutObject", self._count)

    def _count(self, **_: Any) -> None:
        self.puts += 1


def test_the_second_upload_of_a_content_writes_nothing(s3: S3Settings, tmp_path: Path) -> None:
    client = make_client(s3)
    counter = PutCounter(client)
    images = ImageStore(client, s3)
    (tmp_path / "a.png").write_bytes(b"content")
    (tmp_path / "b.png").write_bytes(b"content")
    assert images.put_file(tmp_path / "a.png") == images.put_file(tmp_path / "b.png")
    assert counter.puts == 1
    images.put_bytes(b"other")
    assert counter.puts == 2


def test_an_object_that_may_expire_soon_is_written_anew(
    s3: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(s3)
    counter = PutCounter(client)
    images = ImageStore(client, s3)
    images.put_bytes(b"content")
    monkeypatch.setattr(store, "_REFRESH_AFTER", timedelta(0))
    images.put_bytes(b"content")
    assert counter.puts == 2


def test_an_object_of_another_size_under_the_key_is_replaced(s3: S3Settings) -> None:
    client = make_client(s3)
    images = ImageStore(client, s3)
    reference = images.put_bytes(b"content")
    client.put_object(Bucket=reference.bucket, Key=reference.key, Body=b"cont")
    images.put_bytes(b"content")
    assert client.get_object(Bucket=reference.bucket, Key=reference.key)["Body"].read() == b"content"


def test_a_file_that_changes_while_it_is_sent_is_refused(s3: S3Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"before")
    client = make_client(s3)

    def change(**_: Any) -> None:
        path.write_bytes(b"after!")

    client.meta.events.register("before-parameter-build.s3.PutObject", change)
    with pytest.raises(UploadRefused, match="changed while it was uploaded"):
        ImageStore(client, s3).put_file(path)
    assert client.list_objects_v2(Bucket=s3.uploads_bucket)["KeyCount"] == 0


def test_a_pipe_is_refused_and_not_waited_for(s3: S3Settings, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputNotFound, match="not a regular file"):
        ImageStore(make_client(s3), s3).put_file(tmp_path / "a.jpg")


class GuardedStore(BaseHTTPRequestHandler):
    """Hides what is missing, as Amazon's store does from who may not list, and takes no large files."""

    protocol_version = "HTTP/1.1"
    max_bytes = 10

    def do_HEAD(self) -> None:
        self._answer(403)

    def do_PUT(self) -> None:
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        if size > self.max_bytes:
            self._answer(400, b"<Error><Code>EntityTooLarge</Code><Message>too large</Message></Error>")
        else:
            self._answer(200)

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def guarded() -> Iterator[ImageStore]:
    """The producers' side of a `GuardedStore`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), GuardedStore)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    settings = S3Settings(
        endpoint_url=f"http://127.0.0.1:{server.server_port}", access_key_id="a", secret_access_key="b"
    )
    client = make_client(settings)
    with contextlib.closing(client):
        yield ImageStore(client, settings)
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_rights_to_write_are_enough(guarded: ImageStore) -> None:
    assert guarded.put_bytes(b"content").key.startswith("sha256/")


def test_a_file_that_the_store_does_not_take_fails_alone(guarded: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"far too long")
    with pytest.raises(UploadRefused, match=r"a\.jpg: the object store refuses it: .*EntityTooLarge"):
        guarded.put_file(path)
    with pytest.raises(UploadRefused, match="EntityTooLarge"):
        guarded.put_bytes(b"far too long")


@pytest.mark.parametrize("name", ["photo", "photo.", "photo.j p", "photo.averylongextension", "photo.ü"])
def test_odd_extensions_are_left_out(s3: S3Settings, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    key = ImageStore(make_client(s3), s3).put_file(tmp_path / name).key
    assert key.rpartition("/")[2].isalnum()


@pytest.fixture
def large_file(tmp_path: Path) -> Iterator[Path]:
    """A file of 300 MB that takes no room on disk."""
    path = tmp_path / "large.tif"
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
    yield path
    path.unlink()


def test_a_large_file_is_never_held_in_memory(s3: S3Settings, large_file: Path) -> None:
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from infra.s3 import make_client
        from infra.settings import S3Settings, load
        from producers.store import ImageStore

        settings = load(S3Settings)
        images = ImageStore(make_client(settings), settings)
        images.put_bytes(b"warm up")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        images.put_file(Path(sys.argv[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(large_file)],
        cwd=PROJECT,
        env={**os.environ, "S3_UPLOADS_BUCKET": s3.uploads_bucket},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < ALLOWED_GROWTH_KIB
    objects = make_client(s3).list_objects_v2(Bucket=s3.uploads_bucket)["Contents"]
    assert LARGE_BYTES in {entry["Size"] for entry in objects}


def test_no_store_no_bucket_and_no_rights(s3: S3Settings) -> None:
    def put(**changed: str) -> None:
        settings = msgspec.structs.replace(s3, **changed)
        ImageStore(make_client(settings), settings).put_bytes(b"content")

    with pytest.raises(S3Unavailable, match=r"127\.0\.0\.1:1 "):
        put(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(BucketNotFound, match="no-such-bucket"):
        put(uploads_bucket="no-such-bucket")
    with pytest.raises(UploadDenied, match="S3_ACCESS_KEY_ID"):
        put(secret_access_key="wrong")
