"""Each way in which modules of the old server were written, behind the contract."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from modules.contract import Box, Detection, Label, Module, ModuleTraits
from modules.errors import ModuleInvalid, ModuleLoadFailed, ModuleOutputInvalid
from modules.loading import load_model, load_module

HERE = Path(__file__).parent.parent / "modules_under_test"
WHITE = Image.new("RGB", (40, 30), "white")


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what a module changes in its process: visible GPUs, imported code, search path, directory."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("MODULE_PATH", raising=False)
    path, directory = [entry for entry in sys.path if not entry.startswith(str(HERE))], Path.cwd()
    sys.path[:] = path
    yield
    sys.path[:] = path
    os.chdir(directory)
    for name in list(sys.modules):
        if name.startswith(("_module_", "Modules")):
            del sys.modules[name]


def load(folder: str) -> Module[bytes]:
    module: Module[bytes] = load_module(str(HERE / folder))
    load_model(module, "cpu")
    return module


def answer(module: Module[bytes], image: Image.Image = WHITE) -> tuple[Detection, ...]:
    (detections,) = module.infer([module.preprocess(image)])
    return tuple(detections)


def test_the_old_example_loads_from_its_path_and_imports_from_modules() -> None:
    module = load("old_server/Modules/places")

    assert answer(module) == (Detection(Box(0, 0, 40, 30), (Label("bright", 1.0), Label("dark", 0.0))),)
    black = Image.new("RGB", (7, 5))
    assert answer(module, black) == (Detection(Box(0, 0, 7, 5), (Label("dark", 1.0), Label("bright", 0.0))),)


def test_a_module_that_builds_on_another_of_the_same_server() -> None:
    module = load("old_server/Modules/inherits")

    assert module.name == "inherits"
    assert answer(module)[0].labels[0] == Label("bright", 1.0)


@pytest.mark.parametrize("entry", ["old_server", "old_server/Modules"])
def test_modules_imports_resolve_from_module_path(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODULE_PATH", os.pathsep.join(["/nowhere", str(HERE / entry)]))

    assert answer(load("legacy_module_path"))[0].labels == (Label("bright", 1.0),)


def test_without_module_path_the_import_fails_and_is_named() -> None:
    with pytest.raises(ModuleLoadFailed, match=r"legacy_module_path.*No module named 'Modules"):
        load_module(str(HERE / "legacy_module_path"))


def test_a_legacy_class_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODULE_PATH", str(HERE / "old_server"))
    module = load_module("Modules.places.main:Places")
    load_model(module, "cpu")

    assert module.name == "places"
    assert answer(module)[0].box == Box(0, 0, 40, 30)


def test_lists_in_place_of_tuples_and_labels_best_first() -> None:
    assert answer(load("legacy_lists")) == (
        Detection(Box(0, 0, 40, 30), (Label("cat", 0.5), Label("dog", 0.25))),
        Detection(Box(1, 2, 3, 4), ()),
    )


def test_numpy_numbers() -> None:
    first, second = answer(load("legacy_numpy"))

    assert first.box == Box(0, 0, 40, 30)
    assert first.labels == (Label("float32", 1.0), Label("array", 0.5), Label("int", 0.0))
    assert second.box == Box(1, 2.5, 3, 4)
    assert {type(value) for value in (first.box.x, second.box.y, first.labels[0].score)} == {float}


def test_tensors_as_numbers() -> None:
    assert answer(load("legacy_tensors")) == (
        Detection(Box(0, 0.5, 40, 30), (Label("half", 0.5),)),
        Detection(Box(1, 2, 3, 4), (Label("one", 1.0),)),
    )


def test_the_later_shape() -> None:
    box = Box(0, 0.5, 40, 30)
    assert answer(load("legacy_later_shape")) == (
        Detection(box, (Label("cat", 0.5), Label("dog", 0.25))),
        Detection(box, (Label("bird", 1.0),)),
    )


def test_a_relative_import() -> None:
    assert answer(load("legacy_relative"))[0].labels == (Label("relative", 1.0),)


def test_siblings_of_the_same_name_do_not_meet() -> None:
    import schemas

    one, two = load("legacy_sibling_one"), load("legacy_sibling_two")

    assert answer(one)[0].labels == (Label("one of one", 1.0), Label("imported while inferring", 0.0))
    assert answer(two)[0].labels[0] == Label("two of two", 1.0)
    assert sys.modules["schemas"] is schemas


def test_what_is_written_beside_the_image_is_gone_and_meets_no_other_call() -> None:
    module = load("legacy_writes")
    folders = []
    for _ in range(2):
        (found,) = answer(module)
        assert found.box.w == 1, "the image must be alone in its folder"
        folders.append(Path(found.labels[0].label))

    assert not any(folder.exists() for folder in folders)


def test_the_current_directory_stays() -> None:
    before = Path.cwd()
    module = load("legacy_changes_directory")
    assert Path.cwd() == before
    for _ in range(2):
        assert answer(module)[0].box.w == 1
        assert Path.cwd() == before


def test_a_path_of_another_machine_becomes_the_modules_own_folder(caplog: pytest.LogCaptureFixture) -> None:
    assert answer(load("legacy_hard_coded_path"))[0].labels == (Label("found beside the code", 1.0),)
    assert "/workspace/analysis-module" in caplog.text


def test_an_exit_fails_the_image_only() -> None:
    module = load("legacy_exits")
    with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
        answer(module)


def test_a_model_that_is_missing_is_named() -> None:
    with pytest.raises(ModuleLoadFailed, match=r"legacy_fails_to_load.*FileNotFoundError.*missing\.pth"):
        load("legacy_fails_to_load")


def test_a_constructor_with_arguments_is_refused() -> None:
    with pytest.raises(ModuleInvalid, match="gpu_id"):
        load_module(str(HERE / "legacy_needs_arguments"))


def test_garbage_names_module_and_entry() -> None:
    with pytest.raises(ModuleOutputInvalid, match=r"'legacy_garbage', entry 1 .* not \(x, y, w, h\)"):
        answer(load("legacy_garbage"))


def test_name_version_and_limits_come_from_folder_and_code() -> None:
    one, two = load_module(str(HERE / "legacy_lists")), load_module(str(HERE / "legacy_writes"))

    assert one.name == "legacy_lists"
    assert len(one.version) == 12
    assert one.version != two.version
    assert ModuleTraits.of(one) == ModuleTraits(max_batch=1)


def test_constructing_does_not_load() -> None:
    load_module(str(HERE / "legacy_fails_to_load"))


@pytest.mark.parametrize(
    ("device", "visible", "left"),
    [("cpu", "0,1", ""), ("cuda:1", "", "1"), ("cuda:1", "4,7", "7"), ("cuda", "4,7", "4")],
)
def test_only_the_one_device_is_visible(
    device: str, visible: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    load_model(load_module(str(HERE / "legacy_lists")), device)

    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_pixels_arrive_unchanged() -> None:
    image = Image.effect_noise((64, 48), 80).convert("RGB")
    module = load("old_server/Modules/places")
    expected = sum(v * n for v, n in enumerate(image.convert("L").histogram())) / 255 / (64 * 48)

    scores = {label.label: label.score for label in answer(module, image)[0].labels}
    assert scores["bright"] == pytest.approx(expected, abs=1e-12)
