import stat
from pathlib import Path

import pytest

from infra import settings
from infra.local import state
from infra.local.process import Record
from infra.local.state import StackFolder, kafka_uuid, write_private
from infra.settings import DatabaseSettings, SettingError, load
from schemas.errors import AnalysisError


@pytest.fixture
def folder(tmp_path: Path) -> StackFolder:
    made = StackFolder(tmp_path / "stack")
    made.create()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_credentials_are_made_once_and_kept_private(folder: StackFolder) -> None:
    first = folder.credentials()
    assert StackFolder(folder.root).credentials() == first
    assert mode(folder.root / "credentials.json") == 0o600


def test_a_first_start_that_was_cut_off_can_be_repeated(tmp_path: Path) -> None:
    made = StackFolder(tmp_path)
    made.logs = tmp_path / "missing" / "logs"
    with pytest.raises(FileNotFoundError):
        made.create()
    assert made.run.exists()
    assert made.exists
    StackFolder(tmp_path).create()


def test_credentials_that_cannot_be_read_are_named(folder: StackFolder) -> None:
    file = folder.root / "credentials.json"
    for content in (b"", b"{}"):
        file.write_bytes(content)
        with pytest.raises(SettingError, match=str(file)):
            folder.credentials()
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingError, match=rf"{file}.*belongs to user \d"):
        folder.credentials()


def test_a_folder_that_is_not_ours_is_refused_with_its_owner(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(SettingError, match=r"lock.*belongs to user \d"), StackFolder(tmp_path).locked():
        pass


def test_an_environment_file_that_cannot_be_read_is_left_out_aloud(
    folder: StackFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.root / settings.STACK_FILE).mkdir()
    given = {"LOCAL_DIR": str(folder.root), "DATABASE_URL": "postgresql://elsewhere/x"}
    assert load(DatabaseSettings, given).url == "postgresql://elsewhere/x"
    load(DatabaseSettings, given)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(folder.root / settings.STACK_FILE) in caplog.text


def test_credentials_differ_between_stacks(tmp_path: Path) -> None:
    folders = [StackFolder(tmp_path / name) for name in ("one", "two")]
    for each in folders:
        each.create()
    one, two = (each.credentials() for each in folders)
    assert one.postgres_password != two.postgres_password
    assert len({*one.s3_signing_keys, *two.s3_signing_keys}) == 8


def test_the_environment_file_is_private_and_read_by_the_settings(folder: StackFolder) -> None:
    folder.write_environment({"DATABASE_URL": "postgresql://app:p%3Dq=@127.0.0.1:1/x"})
    assert mode(folder.root / settings.STACK_FILE) == 0o600
    assert load(DatabaseSettings, {"LOCAL_DIR": str(folder.root)}).url.endswith("p%3Dq=@127.0.0.1:1/x")


def test_a_private_file_replaces_one_that_everybody_could_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_records_come_back_until_they_are_forgotten(folder: StackFolder) -> None:
    record = Record(pid=1, born="boot 2", mark="m", ports=(3, 4))
    folder.keep("analyzer.faces", record)
    assert folder.record("analyzer.faces") == record
    assert folder.recorded() == ["analyzer.faces"]
    folder.forget("analyzer.faces")
    assert folder.record("analyzer.faces") is None
    assert folder.recorded() == []


@pytest.mark.parametrize("content", [b"", b"12345\n", b'{"pid": "x"}', b"\xff"])
def test_a_record_that_cannot_be_read_is_none(folder: StackFolder, content: bytes) -> None:
    (folder.run / "kafka.json").write_bytes(content)
    assert folder.record("kafka") is None


def test_a_folder_with_other_files_of_these_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(SettingError, match=r"LOCAL_DIR.*logs"):
        StackFolder(tmp_path).create()


def test_erasing_leaves_what_the_stack_did_not_make(folder: StackFolder) -> None:
    folder.credentials()
    folder.data("kafka").mkdir()
    (folder.root / "demo").mkdir()
    folder.erase()
    assert not folder.exists
    assert [path.name for path in folder.root.iterdir()] == ["demo"]


def test_erasing_deletes_nothing_where_no_stack_was(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    StackFolder(tmp_path).erase()
    assert (tmp_path / "logs").exists()


def test_only_one_command_at_a_time(folder: StackFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_LOCK_PATIENCE_S", 0.2)
    with folder.locked(), pytest.raises(AnalysisError, match="lock"), StackFolder(folder.root).locked():
        pass
    with StackFolder(folder.root).locked():
        pass


def test_kafka_ids_never_look_like_options() -> None:
    ids = {kafka_uuid() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)
