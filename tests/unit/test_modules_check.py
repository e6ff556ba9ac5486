"""The conformance check passes what keeps the contract and names each seeded fault."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from modules.check import Report, check_module
from modules.check_images import generated_images, images_in
from modules.commands import app
from modules.errors import ModuleNotFound

PROJECT = Path(__file__).parent.parent.parent
HERE = PROJECT / "tests" / "modules_under_test"
SHORT_S = 0.3


@pytest.fixture(autouse=True)
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def verdicts(report: Report, verdict: str) -> dict[str, str]:
    return {found.check: found.message for found in report.findings if found.verdict == verdict}


@pytest.mark.parametrize("folder", ["plain", "as_package", "old_server/Modules/places", "legacy_lists"])
def test_modules_that_keep_the_contract(folder: str) -> None:
    report = check_module(str(HERE / folder), "cpu", generated_images(), SHORT_S)

    assert verdicts(report, "failed") == {}
    assert report.passed
    assert len(report.findings) == 10


FAULTS = [
    ("wrong_order", "batch order", "answered otherwise than alone; it is the answer of image"),
    ("wrong_length", "single images", "image '1x1': infer returned 0 answers to 1 images"),
    ("leaks", "memory", "KiB an image and never stops"),
    ("not_thread_safe", "preprocess in threads", "prepared while other threads prepared theirs"),
    ("score_above_one", "single images", "the score of 'sure' is 99.0"),
    ("nan_box", "single images", "not a finite Python number"),
    ("fails_on_tiny", "single images", "image '1x1': raised ValueError"),
    ("fails_on_empty_batch", "empty batch", "raised IndexError: list index out of range"),
    ("overstates_batch", "full batch", "raised MemoryError: out of memory"),
    ("knows_its_process", "spawned process", "in a new process: raised OSError: the model is open elsewhere"),
    ("dies_in_spawned_process", "spawned process", "in a new process: it died"),
    ("submits_only", "submitted ahead", "it has `submit` alone"),
    ("one_batch_at_a_time", "submitted ahead", "`collect` answers otherwise than `infer`"),
    ("odd_bucket", "single images", "bucket returns a list, which is not hashable"),
    ("random", "batch order", "answered otherwise than alone"),
]


@pytest.mark.parametrize(("folder", "check", "said"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_each_fault_is_named(folder: str, check: str, said: str) -> None:
    report = check_module(str(HERE / "faults" / folder), "cpu", generated_images(), SHORT_S)

    failed = verdicts(report, "failed")
    assert said in failed.get(check, f"passed; failed: {failed}")
    assert not report.passed


@pytest.mark.parametrize(
    ("folder", "check", "said"),
    [
        ("reaches_outside", "single images", "reaches outside; the worker will clip it"),
        ("changes_its_items", "repeated batch", "the second time the answers differ"),
    ],
)
def test_doubts_are_warnings(folder: str, check: str, said: str) -> None:
    report = check_module(str(HERE / "faults" / folder), "cpu", generated_images(), SHORT_S)

    assert said in verdicts(report, "warning")[check]
    assert report.passed


def test_a_module_that_cannot_be_loaded_fails_the_first_check() -> None:
    report = check_module(str(HERE / "legacy_fails_to_load"), "cpu", generated_images(), SHORT_S)
    assert [found.check for found in report.findings] == ["load"]
    assert "missing.pth" in report.findings[0].message


def test_a_module_that_is_not_there_is_no_finding() -> None:
    with pytest.raises(ModuleNotFound):
        check_module("./no/such/folder", "cpu", generated_images(), SHORT_S)


def test_images_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    upright = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (3, 3), (0, 0, 0, 0)).save(tmp_path / "below" / "clear.png")
    Image.new("L", (4000, 1000)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "text.txt").write_text("no image")

    found = {sample.name: sample.image for sample in images_in(tmp_path)}
    assert {name: (image.mode, image.size) for name, image in found.items()} == {
        "below/clear.png": ("RGB", (3, 3)),
        "turned.jpg": ("RGB", (20, 40)),
        "wide.png": ("RGB", (2000, 500)),
    }
    assert found["below/clear.png"].getpixel((1, 1)) == (255, 255, 255)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "analysis.py", "modules", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_command_prints_the_report_and_nothing_else_on_stdout() -> None:
    done = run("check", str(HERE / "legacy_exits"), "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert "sys.exit(3)" in report["findings"][1]["message"]
    assert "I do not like this image" in done.stderr


def test_the_command_passes_the_dummy() -> None:
    done = CliRunner().invoke(app, ["check", "dummy", "--seconds", str(SHORT_S)])
    assert done.exit_code == 0
    assert "dummy: keeps the contract" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "./nowhere"), 4, "error [module_not_found]: module './nowhere'"),
        (
            ("check", "dummy", "--images", "./nowhere"),
            2,
            "error [input_not_found]: --images: nowhere is no folder",
        ),
    ],
)
def test_wrong_arguments_of_the_command(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""


def test_list_names_each_shipped_module_with_its_version() -> None:
    listed = CliRunner().invoke(app, ["list"])
    lines = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    assert listed.exit_code == 0
    assert ["dummy", "1.1", "ready"] in lines
    assert "faces" in {line[0] for line in lines}
