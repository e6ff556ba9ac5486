"""`analysis modules bench`, as somebody calls it who is about to run a module on a new machine."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from consumers.analyzer.tuning.figures import Report
from infra.exit_codes import ExitCode
from infra.settings import AnalyzerSettings, load
from tests import images

PROJECT = Path(__file__).parents[2]
FAULTS = "./tests/modules_under_test/faults"


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "analysis", "modules", "bench", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shown = tmp_path / "images"
    shown.mkdir()
    for name in ("jpeg", "png", "webp", "exif-6"):
        (shown / name).write_bytes(images.good_images()[name].data)
    return shown


def test_its_settings_are_ones_that_it_measured() -> None:
    run = bench("dummy", "--seconds", "5", "--json")
    assert run.returncode == ExitCode.OK, run.stderr
    report = msgspec.json.decode(run.stdout, type=Report)
    assert report.subject.module == "dummy"
    assert report.subject.images > 0
    assert report.inference.batches[0].size == 1
    assert report.preparation[0].images_per_s > 0
    advised = load(AnalyzerSettings, report.advice.settings)
    tried = [figure.combination for figure in report.pipeline]
    assert (advised.workers, advised.image_threads, advised.max_batch, advised.max_wait_ms) in [
        (str(one.workers), one.threads, one.max_batch, one.max_wait_ms) for one in tried
    ]
    assert report.advice.latency.images > 0
    assert report.advice.reasons


def test_files_that_are_no_images_are_named_and_skipped(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(images.bad_images()["truncated-jpeg"].data)
    plot = tmp_path / "curve.svg"
    run = bench("dummy", "--seconds", "2", "--images", str(folder), "--plot", str(plot))
    assert run.returncode == ExitCode.OK, run.stderr
    assert f"skipped {folder / 'broken.jpg'}: the image is damaged" in run.stderr
    assert f"4 images ({folder})" in run.stdout
    assert all(f"\n{name}=" in run.stdout for name in settings_named(run.stdout))
    assert len(settings_named(run.stdout)) == 4
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def settings_named(text: str) -> list[str]:
    return [line.partition("=")[0] for line in text.splitlines() if line.startswith("ANALYZER_")]


def test_want_of_memory_bounds_the_batches(folder: Path) -> None:
    run = bench(f"{FAULTS}/overstates_batch", "--seconds", "3", "--images", str(folder), "--json")
    assert run.returncode == ExitCode.OK, run.stderr
    report = msgspec.json.decode(run.stdout, type=Report)
    assert [batch.size for batch in report.inference.batches] == [1, 2, 4, 8, 16]
    assert report.inference.ended == "out of memory with a batch of 32"
    assert int(report.advice.settings["ANALYZER_MAX_BATCH"]) <= 16


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing", "--images", "tests/golden/records"], ExitCode.MODULE, "no module 'nothing'"),
        (["dummy", "--images", "absent"], ExitCode.USAGE, "absent is no folder"),
        (["dummy", "--plot", "absent/curve.svg"], ExitCode.USAGE, "no folder absent"),
        (["dummy", "--gpus", "many"], ExitCode.USAGE, "ANALYZER_GPUS"),
        ([f"{FAULTS}/dies_in_spawned_process"], ExitCode.FAILED, "ended its process: exit code 1"),
    ],
)
def test_what_cannot_be_measured_ends_in_one_line(arguments: list[str], code: ExitCode, said: str) -> None:
    run = bench(*arguments)
    assert run.returncode == code
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_help_is_found_where_modules_are_and_imports_nothing_heavy() -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "analysis", "modules", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert " bench " in shown.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "rich", "PIL", "numpy", "obstore", "msgspec", "psutil"}
