"""Which files and references `analysis upload` takes."""

import os
from pathlib import Path

import pytest

from producers.errors import InputNotFound, InvalidArgument
from producers.sources import Selection, expand, read_reference
from schemas.messages import ImageReference


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the current one."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "in/c.webp", "in/deep/d.jpg"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["set/a.PNG", "set/b.jpg"]),
        (Selection(recursive=True), ["set/a.PNG", "set/b.jpg", "set/in/c.webp", "set/in/deep/d.jpg"]),
        (Selection(include=("*",)), ["set/a.PNG", "set/b.jpg", "set/notes.txt"]),
        (Selection(recursive=True, exclude=("in/*",)), ["set/a.PNG", "set/b.jpg"]),
        (Selection(recursive=True, include=("*.JPG",)), ["set/b.jpg", "set/in/deep/d.jpg"]),
        (Selection(recursive=True, include=("in/deep/*",)), ["set/in/deep/d.jpg"]),
    ],
)
def test_folders(folder: Path, selection: Selection, expected: list[str]) -> None:
    assert [source.name for source in expand(["set"], selection)] == expected


def test_a_file_that_is_named_is_taken_whatever_it_is_called(folder: Path) -> None:
    (source,) = expand(["set/notes.txt"], Selection())
    assert source.identity == str(folder / "set" / "notes.txt")


def test_each_image_counts_once(folder: Path) -> None:
    found = expand(["set/b.jpg", str(folder / "set" / "b.jpg"), "set", "s3://b/k", "s3://b/k"], Selection())
    assert [source.identity for source in found] == [
        str(folder / "set" / "b.jpg"),
        str(folder / "set" / "a.PNG"),
        "s3://b/k",
    ]


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputNotFound, match="nowhere"):
        expand(["set", "nowhere"], Selection())


def test_references() -> None:
    assert read_reference("s3://bucket/a key") == ImageReference("bucket", "a key")
    assert read_reference("bucket/key") is None
    with pytest.raises(InvalidArgument):
        read_reference("s3://bucket")


def test_names_of_any_bytes_become_text(folder: Path) -> None:
    path = Path(os.fsdecode(bytes(folder / "set" / "in") + b"/\xff.jpg"))
    path.write_bytes(b"x")
    sources = [*expand([str(path)], Selection()), *expand(["set"], Selection(True, ("*\udcff*",)))]
    assert [source.name for source in sources] == [rf"{folder}/set/in/\xff.jpg", r"set/in/\xff.jpg"]
    assert {source.identity for source in sources} == {rf"{folder}/set/in/\xff.jpg"}
    assert {source.fingerprint().partition(":")[0] for source in sources} == {"1"}
    with pytest.raises(InvalidArgument, match="UTF-8"):
        read_reference("s3://bucket/\udcff")


def test_a_fingerprint_changes_with_the_file(folder: Path) -> None:
    (source,) = expand(["set/b.jpg"], Selection())
    before = source.fingerprint()
    (folder / "set" / "b.jpg").write_bytes(b"xy")
    assert source.fingerprint() != before
    (folder / "set" / "b.jpg").unlink()
    with pytest.raises(InputNotFound):
        source.fingerprint()
