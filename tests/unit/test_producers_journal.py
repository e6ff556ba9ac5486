"""The journal of an upload: what it remembers, and what torn or foreign lines do to it."""

import os
import resource
from pathlib import Path

import pytest

from producers.errors import InvalidArgument
from producers.journal import Begun, Journal, Sending, journal_path
from producers.sources import ImageSource
from schemas.messages import ImageReference

SOURCE = ImageSource("a.jpg", ImageReference("images", "a.jpg"))
OTHER = ImageSource("b.jpg", ImageReference("images", "b.jpg"))
BEGUN = Begun([("images", 0, 5)], [("results", 0, 7)])


def sending(source: ImageSource, request_id: str, fingerprint: str = "") -> Sending:
    return Sending(source.identity, fingerprint, request_id, ImageReference("images", source.name))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that does not exist yet, in a folder that does not either."""
    return tmp_path / "state" / "upload.jsonl"


@pytest.fixture
def journal(path: Path) -> Journal:
    """A journal with one request that was sent and one in doubt."""
    journal = Journal(path)
    journal.open()
    journal.begin(BEGUN)
    journal.sending(sending(SOURCE, "r1"))
    journal.sending(sending(OTHER, "r2"))
    journal.sent("r1")
    return journal


def reopened(path: Path) -> Journal:
    journal = Journal(path)
    journal.open()
    return journal


def test_an_interrupted_upload_is_remembered(journal: Journal, path: Path) -> None:
    journal.close(completed=False)
    later = reopened(path)
    assert later.begun == BEGUN
    assert later.find(SOURCE) == sending(SOURCE, "r1")
    assert later.find(OTHER) is None
    assert later.in_doubt == {"r2"}
    assert later.sent_count == 1
    later.close(completed=False)


def test_a_completed_upload_leaves_no_file(journal: Journal, path: Path) -> None:
    journal.close(completed=True)
    assert not path.exists()


def test_a_file_that_was_sent_anew_is_known_by_its_last_request(journal: Journal, path: Path) -> None:
    journal.sending(sending(SOURCE, "r3", fingerprint="new"))
    assert journal.find(SOURCE) is None
    journal.sent("r3")
    found = journal.find(SOURCE)
    assert found is not None
    assert found.request_id == "r3"
    journal.close(completed=False)


@pytest.mark.parametrize("torn", [b'{"type":"sent","request', b"\xff\x00", b'{"type":"other"}'])
def test_a_torn_last_line_harms_no_other(journal: Journal, path: Path, torn: bytes) -> None:
    journal.close(completed=False)
    with path.open("ab") as file:
        file.write(torn)
    later = reopened(path)
    later.sent("r2")
    later.close(completed=False)
    again = reopened(path)
    assert again.in_doubt == set()
    again.close(completed=False)


def test_one_run_at_a_time(journal: Journal, path: Path) -> None:
    with pytest.raises(InvalidArgument, match="runs already"):
        reopened(path)
    journal.close(completed=True)
    reopened(path).close(completed=True)


def test_nowhere_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidArgument, match="XDG_STATE_HOME"):
        reopened(tmp_path / "file" / "upload.jsonl")


def test_the_name_follows_the_arguments() -> None:
    environ = {"XDG_STATE_HOME": "/state"}
    first = journal_path(["a", "b"], environ)
    assert first.parent == Path("/state/analysis/uploads")
    assert journal_path(["a", "b"], environ) == first
    assert journal_path(["a", "c"], environ) != first
    assert journal_path(["\udcff"], environ) != first


def test_an_acknowledgement_after_the_end_is_written_nowhere(journal: Journal, tmp_path: Path) -> None:
    journal.close(completed=False)
    # It has the number that the journal's file had.
    with (tmp_path / "other").open("wb") as other:
        with pytest.raises(OSError, match="Bad file descriptor"):
            journal.sent("r2")
        assert os.fstat(other.fileno()).st_size == 0


def test_a_line_that_finds_no_room_is_an_error(journal: Journal, path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            journal.sent("r2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.in_doubt == {"r2"}
    journal.close(completed=False)
