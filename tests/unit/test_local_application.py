import os
import subprocess
from pathlib import Path

import pytest

from infra.lifecycle import READY_FILE
from infra.local.application import Application, application
from infra.local.state import StackFolder
from infra.settings import AnalyzerSettings
from schemas.errors import AnalysisError, ErrorCode

SETTINGS = AnalyzerSettings(drain_timeout_s=7)


def test_an_analyzer_for_each_module_one_sink_and_one_gateway(tmp_path: Path) -> None:
    modules = ["faces", "./my folder/", "package.path:Class", "/some/where/places"]
    found = application(StackFolder(tmp_path), {"LOCAL_GATEWAY_PORT": "8001"}, modules, SETTINGS)
    names = [each.name for each in found]
    assert names == [
        "analyzer.faces",
        "analyzer.my_folder",
        "analyzer.Class",
        "analyzer.places",
        "sink",
        "gateway",
    ]
    assert found[1].command().argv[-3:] == ("analyzer", "--module", "./my folder/")
    assert [each.command().argv[-1] for each in found[-2:]] == ["sink", "gateway"]
    assert found[-1].address == "http://127.0.0.1:8001"


def test_modules_of_the_same_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="same name") as caught:
        application(StackFolder(tmp_path), {}, ["faces", "./faces"], SETTINGS)
    assert caught.value.code == ErrorCode.USAGE


def test_the_stack_takes_precedence_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "production:9092")
    monkeypatch.setenv("ANALYZER_WORKERS", "3")
    stack = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    sink, _ = application(StackFolder(tmp_path), stack, [], SETTINGS)
    env = sink.command().env
    assert env["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:1"
    assert env["ANALYZER_WORKERS"] == "3"
    assert env["LOCAL_DIR"] == str(tmp_path)


def test_no_proxy_stands_before_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "one.example")
    monkeypatch.setenv("no_proxy", "other.example")
    sink, _ = application(StackFolder(tmp_path), {}, [], SETTINGS)
    env = sink.command().env
    assert env["NO_PROXY"] == env["no_proxy"] == "one.example,other.example,127.0.0.1"


def test_the_code_of_the_current_folder_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "analysis.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "mine.py").write_text("class Mine: pass")
    monkeypatch.chdir(tmp_path)
    arguments = ("modules", "check", "mine:Mine")
    command = Application("check", StackFolder(tmp_path), 1, arguments, os.environ).command()
    done = subprocess.run(
        command.argv,
        env=command.env,
        cwd=command.cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What was named from there was found there.
    assert "Mine lacks the methods load, preprocess, infer" in done.stdout + done.stderr


def test_ready_when_the_process_says_so_and_not_by_an_old_word(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    folder.create()
    sink, _ = application(folder, {}, [], SETTINGS)
    said = Path(sink.command().env[READY_FILE])
    said.touch()
    assert sink.ready()
    sink.prepare()
    assert not sink.ready()


def test_stopping_waits_longer_than_draining_takes(tmp_path: Path) -> None:
    sink, _ = application(StackFolder(tmp_path), {}, [], SETTINGS)
    ((_, patience_s),) = sink.stop_steps
    assert patience_s > SETTINGS.drain_timeout_s
