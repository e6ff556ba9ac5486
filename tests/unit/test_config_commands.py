"""`analysis config` and the reference that is made from the code."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.config_commands import REDACTED, app, markdown, rows_of
from infra.settings import ALL_SETTINGS, DatabaseSettings, S3Settings, SettingError, variable

PROJECT = Path(__file__).parents[2]


def test_the_committed_reference_is_current() -> None:
    committed = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert committed == markdown(), "run `analysis config document`"


def test_every_setting_is_in_the_reference() -> None:
    for settings in ALL_SETTINGS:
        for field in settings.__struct_fields__:
            assert f"| `{variable(settings, field)}` |" in markdown()


def test_secrets_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "hidden-1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:hidden-2@db/analysis")
    for arguments in (["show"], ["show", "--json"]):
        shown = CliRunner().invoke(app, arguments)
        assert shown.exit_code == 0
        assert "hidden" not in shown.output
        assert REDACTED in shown.output


def test_origins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("S3_REGION", "eu-north-1")
    monkeypatch.delenv("S3_UPLOADS_BUCKET", raising=False)
    monkeypatch.delenv("S3_ENDPOINT_URL", raising=False)
    (tmp_path / "stack.env").write_text("S3_ENDPOINT_URL=http://127.0.0.1:5\n")
    rows = {row.name: row for row in rows_of(S3Settings)}
    assert (rows["S3_REGION"].value, rows["S3_REGION"].origin) == ("eu-north-1", "environment")
    assert (rows["S3_ENDPOINT_URL"].value, rows["S3_ENDPOINT_URL"].origin) == (
        "http://127.0.0.1:5",
        "local stack",
    )
    assert rows["S3_UPLOADS_BUCKET"].origin == "default"


def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SESSION_TIMEOUT_MS", "soon")
    shown = CliRunner().invoke(app, ["show"])
    assert isinstance(shown.exception, SettingError)
    assert "KAFKA_SESSION_TIMEOUT_MS" in shown.exception.message


def test_an_empty_secret_is_shown_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "")
    rows = {row.name: row.value for row in rows_of(S3Settings)}
    assert rows["S3_SECRET_ACCESS_KEY"] == ""
    assert {row.value for row in rows_of(DatabaseSettings)} == {REDACTED}
