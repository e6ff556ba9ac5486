"""What is said of a checkpoint's folder before any framework is imported."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.settings import ModuleSettings
from modules.errors import ModuleInvalid, ModuleNotFound
from modules.huggingface.checkpoint import Checkpoint
from modules.huggingface.options import Options
from modules.loading import load_module
from schemas.errors import AnalysisError, ErrorCode

PROJECT = Path(__file__).parent.parent.parent


def checkpoint(folder: Path, weights: bytes = b"weights", **processor: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "rt_detr"}')
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_each_folder_is_a_module_of_its_own(tmp_path: Path) -> None:
    one, other = checkpoint(tmp_path / "rtdetr_r18vd"), checkpoint(tmp_path / "détecteur n° 2", b"others")
    first, second = (load_module(f"huggingface:{folder}") for folder in (one, other))

    assert (first.name, second.name) == ("huggingface.rtdetr_r18vd", "huggingface.d-tecteur-n-2")
    assert first.version != second.version
    assert first.version == load_module(f"huggingface:{one}").version


def test_a_link_keeps_its_name_and_a_cached_download_gets_its_models(tmp_path: Path) -> None:
    cached = checkpoint(tmp_path / "models--PekingU--rtdetr_r18vd" / "snapshots" / "0123abcd")
    (tmp_path / "current").symlink_to(cached)

    assert Checkpoint.at(str(cached)).name == "PekingU.rtdetr_r18vd"
    assert Checkpoint.at(str(tmp_path / "current")).name == "current"
    assert Checkpoint.at(str(tmp_path / "current" / ".." / "0123abcd")).folder == cached


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_the_version_changes_with_every_file_that_decides_the_answers(tmp_path: Path, file: str) -> None:
    folder = checkpoint(tmp_path / "model")
    before = load_module(f"huggingface:{folder}").version
    with (folder / file).open("ab") as stream:
        stream.write(b"\n")

    assert load_module(f"huggingface:{folder}").version != before


def test_the_version_changes_with_the_lowest_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "model")
    before = load_module(f"huggingface:{folder}").version
    monkeypatch.setenv("MODULE_MIN_SCORE", "0.3")

    assert load_module(f"huggingface:{folder}").version != before


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        ({"size": {"height": 640, "width": 480}}, 640),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, 800),
        ({"size": 800, "max_size": 1333}, 800),
        ({"size": {"max_height": 600, "max_width": 900}}, 900),
        ({"image_processor": {"size": {"height": 320, "width": 320}}}, 320),
        ({"size": {"height": 640, "width": 640}, "do_resize": False}, None),
        ({}, None),
    ],
)
def test_how_small_an_image_may_be_decoded(
    tmp_path: Path, processor: dict[str, Any], wanted: int | None
) -> None:
    assert Checkpoint.at(str(checkpoint(tmp_path / "model", **processor))).decode_size_px == wanted


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ModuleNotFound, match=r"there is no folder .*/absent; checkpoints are never downloaded"
    ):
        load_module(f"huggingface:{tmp_path}/absent")
    with pytest.raises(ModuleNotFound, match=r"there is no folder .*/PekingU/rtdetr_r18vd"):
        load_module("huggingface:PekingU/rtdetr_r18vd")
    with pytest.raises(ModuleNotFound, match="name a checkpoint's folder"):
        load_module("huggingface:")
    with pytest.raises(ModuleInvalid, match="needs an argument"):
        load_module("huggingface")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_file_is_missing(tmp_path: Path, file: str) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / file).unlink()
    with pytest.raises(ModuleInvalid, match=f"{folder}.* holds no {file}"):
        load_module(f"huggingface:{folder}")


def test_a_configuration_is_damaged(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModuleInvalid, match=r"config.json is damaged"):
        load_module(f"huggingface:{folder}")


def test_pickled_weights(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModuleInvalid, match=r"only pytorch_model\.bin, and loading a pickle runs what is in it"
    ):
        load_module(f"huggingface:{folder}")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModuleInvalid, match="it holds none"):
        load_module(f"huggingface:{folder}")


def test_settings_are_those_that_are_documented() -> None:
    documented, read = ModuleSettings(), Options()
    assert {field: getattr(documented, field) for field in Options.__struct_fields__} == {
        field: getattr(read, field) for field in Options.__struct_fields__
    }


def test_settings_come_from_the_environment() -> None:
    given = {"MODULE_MAX_BATCH": "4", "MODULE_MIN_SCORE": "0.25", "MODULE_DTYPE": "float16"}
    assert Options.read(given) == Options(max_batch=4, min_score=0.25, dtype="float16")


@pytest.mark.parametrize(("name", "value"), [("MIN_SCORE", "2"), ("MAX_BATCH", "0"), ("DTYPE", "int8")])
def test_a_setting_that_breaks_its_rule(name: str, value: str) -> None:
    with pytest.raises(AnalysisError, match=f"^MODULE_{name}: .*its value is '{value}'") as refusal:
        Options.read({f"MODULE_{name}": value})
    assert refusal.value.code == ErrorCode.SETTING_INVALID


def test_no_framework_is_imported_before_the_model_is_loaded(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    script = (
        "import sys; from modules.loading import load_module; "
        f"load_module({f'huggingface:{folder}'!r}); "
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=False).returncode == 0
