"""Finding modules by name, folder and import path, and what is said when there is none."""

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.contract import Box, Detection, Label, ModuleTraits
from modules.errors import ModuleInvalid, ModuleLoadFailed, ModuleNotFound
from modules.loading import load_model, load_module, shipped_names

HERE = Path(__file__).parent.parent / "modules_under_test"


@pytest.fixture(autouse=True)
def _search_path() -> Iterator[None]:
    path = sys.path.copy()
    yield
    sys.path[:] = path


def answer(spec: str) -> Any:
    module = load_module(spec)
    load_model(module, "cpu")
    return module.infer([module.preprocess(Image.new("RGB", (4, 3)))])


def test_shipped_names() -> None:
    assert {"dummy", "faces"} <= set(shipped_names())
    assert load_module("dummy").name == "dummy"


def test_a_folder() -> None:
    expected = [[Detection(Box(0, 0, 4, 3), (Label("on cpu", 1.0),))]]
    assert answer(str(HERE / "plain")) == expected


def test_a_relative_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    assert load_module("./plain").version == "7"
    assert load_module("faults/nan_box").name == "dummy"


def test_a_folder_under_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HERE))
    assert load_module("~/plain").name == "plain"


def test_a_package_folder() -> None:
    assert load_module(str(HERE / "as_package")).name == "as-package"


def test_an_import_path() -> None:
    assert load_module("modules.dummy.module:Dummy").name == "dummy"


def test_an_import_path_below_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    try:
        assert load_module("plain.module:Plain").name == "plain"
    finally:
        for name in ("plain", "plain.module"):
            sys.modules.pop(name, None)


def test_a_folder_is_read_anew_after_it_failed(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("raise OSError('not yet')")
    with pytest.raises(ModuleLoadFailed, match="OSError: not yet"):
        load_module(str(tmp_path))

    module.write_text((HERE / "plain" / "module.py").read_text() + "\n# longer than before\n")
    assert load_module(str(tmp_path)).name == "plain"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("dumy", "did you mean 'dummy'?"),
        ("", "Shipped modules are dummy, faces"),
        ("tests", "did you mean the folder './tests'?"),
        ("./no/such/folder", "there is no folder"),
        ("a_package_that_nobody_has.code:Class", "Python finds no 'a_package_that_nobody_has'"),
        ("modules.no_such_file:Class", "Python finds no 'modules.no_such_file'"),
        ("modules.dummy.module:Dumy", "has no 'Dumy'"),
        (str(HERE / "nothing_here"), "holds none of module.py, main.py, __init__.py"),
        ("modules.dummy:", "Shipped modules are"),
    ],
)
def test_not_found_says_what_was_looked_for(spec: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parent.parent)
    with pytest.raises(ModuleNotFound) as caught:
        load_module(spec)
    assert said in caught.value.message
    assert repr(spec) in caught.value.message


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("dummy:argument", "takes no argument"),
        ("modules.dummy.module:TOLERANCE", "is not a class"),
        ("modules.contract:Detection", "lacks the methods load, preprocess, infer"),
        ("two_classes", "several module classes (First, Second)"),
        ("no_class", "holds no class with the methods load, preprocess, infer"),
        ("no_name", "its attribute 'name' is ''"),
        ("odd_name", "letters, digits and ._- only"),
        ("bad_limit", "`max_batch` is 0; it must be positive"),
    ],
)
def test_invalid_says_which_rule(spec: str, said: str) -> None:
    with pytest.raises(ModuleInvalid) as caught:
        load_module(spec if ":" in spec else str(HERE / spec))
    assert said in caught.value.message


def test_a_missing_package_comes_with_what_installs_it() -> None:
    with pytest.raises(ModuleLoadFailed) as caught:
        load_module(str(HERE / "lacks_package"))
    assert "a_package_that_nobody_has" in caught.value.message
    assert f"uv pip install -r {HERE / 'lacks_package' / 'requirements.txt'}" in caught.value.message


def test_what_load_raises_names_the_module() -> None:
    module = load_module("dummy")
    module.load = _fail  # type: ignore[method-assign]
    with pytest.raises(ModuleLoadFailed, match="module 'dummy': OSError: no weights"):
        load_model(module, "cpu")


def test_errors_survive_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(ModuleLoadFailed("module 'x': gone")))
    assert (type(error), error.code, error.message) == (
        ModuleLoadFailed,
        "module_load_failed",
        "module 'x': gone",
    )


def test_limits_are_read_once_with_defaults() -> None:
    assert ModuleTraits.of(load_module("dummy")) == ModuleTraits(max_batch=32, decode_size_px=120)
    assert ModuleTraits.of(load_module(str(HERE / "plain"))) == ModuleTraits(
        max_batch=16, decode_size_px=None, timeout_s=60.0
    )
    assert ModuleTraits.of(load_module("faces")).decode_size_px == 640


@pytest.mark.parametrize(
    ("field", "value"), [("max_batch", "8"), ("timeout_s", float("nan")), ("decode_size_px", -1)]
)
def test_a_limit_of_the_wrong_kind(field: str, value: Any) -> None:
    module = load_module(str(HERE / "plain"))
    setattr(module, field, value)
    with pytest.raises(ModuleInvalid, match=field):
        ModuleTraits.of(module)


def test_a_spawned_process_needs_the_name_only() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(answer, (str(HERE / "plain"),)).get(timeout=60)
    assert found == [[Detection(Box(0, 0, 4, 3), (Label("on cpu", 1.0),))]]


def test_naming_every_shipped_module_imports_no_framework() -> None:
    code = (
        "import sys; from modules.loading import load_module, shipped_class, shipped_names\n"
        "[shipped_class(name) for name in shipped_names()]; load_module('faces')\n"
        "sys.exit(', '.join({'torch', 'transformers', 'facenet_pytorch'} & sys.modules.keys()) or None)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def _fail(device: str) -> None:
    raise OSError("no weights")
