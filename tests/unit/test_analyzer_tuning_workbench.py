import io
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL.Image import Image
from PIL.Image import open as open_pillow

from consumers.analyzer.tuning.feeding import FullLoad
from consumers.analyzer.tuning.figures import Batch, BatchSweep, Combination, Preparation
from consumers.analyzer.tuning.orders import BenchConfig, FillPipeline, Infer, PacePipeline, Prepare
from consumers.analyzer.tuning.plot import batch_plot
from consumers.analyzer.tuning.samples import GENERATED_PX, MOST_FILES, generate, image_files
from consumers.analyzer.tuning.workbench import Workbench
from infra.settings import AnalyzerSettings
from schemas.errors import AnalysisError, ErrorCode
from tests import images

SHORT_S = 0.05


class Limited:
    """Prepares an image's size; runs out of memory above `most` images a batch."""

    name, version, max_batch = "limited", "1", 8

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self.sizes: list[int] = []

    def load(self, device: str) -> None: ...

    def preprocess(self, image: Image) -> tuple[int, int]:
        return image.size

    def bucket(self, prepared: tuple[int, int]) -> tuple[int, int]:
        return prepared

    def infer(self, batch: Sequence[tuple[int, int]]) -> Any:
        assert len(set(batch)) == 1
        if len(batch) > self.most:
            raise MemoryError
        self.sizes.append(len(batch))
        return [[] for _ in batch]


class Ahead(Limited):
    """Counts the batches that are submitted and not collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0
        self.most_open = 0

    def submit(self, batch: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return batch

    def collect(self, handle: Sequence[tuple[int, int]]) -> Any:
        self.open -= 1
        return self.infer(handle)


class Failing(Limited):
    """Fails for every image."""

    def infer(self, batch: Sequence[tuple[int, int]]) -> Any:
        raise ValueError("no good")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in (("a.jpg", (200, 150)), ("b.jpg", (60, 80)), ("c.jpg", (200, 150))):
        (tmp_path / name).write_bytes(images.jpeg(size=size, box=(5, 5, 20, 20)))
    return tmp_path


def workbench(module: Any, folder: Path, device: str = "cpu", **settings: Any) -> Workbench:
    files = tuple(str(path) for path in sorted(folder.iterdir()))
    config = BenchConfig(index=0, device=device, settings=AnalyzerSettings(**settings), files=files)
    return Workbench(module, config)


def combination(max_batch: int = 4) -> Combination:
    return Combination(workers=1, threads=2, max_batch=max_batch, max_wait_ms=1)


def test_files_that_cannot_be_measured_with_are_named_and_left_out(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(images.bad_images()["truncated-jpeg"].data)
    (folder / "notes.txt").write_text("not an image at all")
    (folder / "too-large.bmp").write_bytes(images.encode(images.picture(size=(300, 300)), "BMP"))
    loaded = workbench(Limited(), folder, max_image_bytes=100_000).loaded()
    assert [Path(name).name for name in loaded.files] == ["a.jpg", "b.jpg", "c.jpg"]
    reasons = {Path(skipped.file).name: skipped.reason for skipped in loaded.skipped}
    assert "damaged" in reasons["broken.jpg"]
    assert "not an image" in reasons["notes.txt"]
    assert "ANALYZER_MAX_IMAGE_BYTES" in reasons["too-large.bmp"]
    assert not any("s3://" in reason for reason in reasons.values())


def test_without_any_image_there_is_nothing_to_measure(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image at all")
    with pytest.raises(AnalysisError, match=r"none of the 1 files.*notes\.txt") as raised:
        workbench(Limited(), tmp_path)
    assert raised.value.code == ErrorCode.INPUT_NOT_FOUND


def test_an_image_that_the_module_does_not_take_is_left_out(folder: Path) -> None:
    class Picky(Limited):
        def preprocess(self, image: Image) -> tuple[int, int]:
            if image.height > image.width:
                raise ValueError("upright")
            return image.size

    loaded = workbench(Picky(), folder).loaded()
    assert [skipped.reason for skipped in loaded.skipped] == ["preprocess raised ValueError: upright"]


def test_preparation_is_measured_with_as_many_threads_as_asked_for(folder: Path) -> None:
    together = threading.Barrier(3, timeout=10)

    class Together(Limited):
        shown = 0

        def preprocess(self, image: Image) -> tuple[int, int]:
            self.shown += 1
            if self.shown > 3:
                together.wait()
            return image.size

    figure = workbench(Together(), folder).do(Prepare(threads=3, seconds=0))
    assert isinstance(figure, Preparation)
    assert figure.threads == 3
    assert figure.images_per_s > 0


def test_batches_hold_images_that_may_share_one(folder: Path) -> None:
    module = Limited()
    sweep = workbench(module, folder).do(Infer(seconds=60))
    assert isinstance(sweep, BatchSweep)
    assert [batch.size for batch in sweep.batches] == [1, 2, 4, 8]
    assert set(module.sizes) == {1, 2, 4, 8}
    assert sweep.ended == ""


def test_want_of_memory_ends_the_sweep_over_batches(folder: Path) -> None:
    sweep = workbench(Limited(most=3), folder).do(Infer(seconds=60))
    assert isinstance(sweep, BatchSweep)
    assert [batch.size for batch in sweep.batches] == [1, 2]
    assert sweep.ended == "out of memory with a batch of 4"


def test_a_module_without_memory_for_one_image_is_not_measured(folder: Path) -> None:
    with pytest.raises(AnalysisError) as raised:
        workbench(Limited(most=0), folder).do(Infer(seconds=SHORT_S))
    assert raised.value.code == ErrorCode.DEVICE_OUT_OF_MEMORY


class Gpu:
    """The part of torch.cuda that tells of memory: its peak is the largest batch since the reset."""

    class OutOfMemoryError(RuntimeError):
        pass

    def __init__(self, module: Limited) -> None:
        self.module = module
        self.cuda = self

    def empty_cache(self) -> None: ...

    def reset_peak_memory_stats(self, device: str) -> None:
        assert device == "cuda:0"
        self.module.sizes.clear()

    def max_memory_allocated(self, device: str) -> int:
        return 1000 * max(self.module.sizes)


def test_on_a_gpu_each_batch_has_its_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Limited()
    monkeypatch.setitem(sys.modules, "torch", Gpu(module))
    sweep = workbench(module, folder, device="cuda:0").do(Infer(seconds=60))
    assert isinstance(sweep, BatchSweep)
    assert [batch.memory_bytes for batch in sweep.batches] == [1000, 2000, 4000, 8000]


def test_an_asynchronous_module_is_kept_one_batch_ahead_and_nothing_is_left_open(folder: Path) -> None:
    module = Ahead()
    workbench(module, folder).do(Infer(seconds=SHORT_S))
    assert (module.most_open, module.open) == (2, 0)


def test_the_pipeline_answers_all_that_it_is_fed(folder: Path) -> None:
    module = Limited()
    load = workbench(module, folder).do(FillPipeline(combination=combination(), seconds=SHORT_S))
    assert isinstance(load, FullLoad)
    assert sum(module.sizes) == len(load.finished_s) >= 8
    assert max(module.sizes) <= 4
    assert 1 <= load.mean_batch <= 4


def test_images_that_arrive_one_by_one_are_timed_one_by_one(folder: Path) -> None:
    order = PacePipeline(combination=combination(), images_per_s=200, seconds=SHORT_S)
    module = Limited()
    spent_ms = workbench(module, folder).do(order)
    assert isinstance(spent_ms, list)
    assert len(spent_ms) == sum(module.sizes) > 0
    assert min(spent_ms) > 0


def test_a_module_that_fails_in_the_pipeline_is_not_measured(folder: Path) -> None:
    with pytest.raises(AnalysisError, match="infer raised ValueError: no good"):
        workbench(Failing(), folder).do(FillPipeline(combination=combination(), seconds=SHORT_S))


def test_many_files_are_taken_from_all_over_a_folder(tmp_path: Path) -> None:
    for number in range(MOST_FILES * 2 + 1):
        (tmp_path / f"{number:04}").touch()
    files = image_files(tmp_path)
    assert MOST_FILES / 2 < len(files) <= MOST_FILES
    assert files[-1].name > f"{MOST_FILES * 2 - 4:04}"


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_without_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnalysisError, match=name) as raised:
        image_files(tmp_path / name)
    assert raised.value.code == ErrorCode.INPUT_NOT_FOUND


def test_generated_images_weigh_as_photographs_do(tmp_path: Path) -> None:
    files = generate(tmp_path, 2)
    contents = [path.read_bytes() for path in files]
    assert len(set(contents)) == 2
    for raw in contents:
        assert open_pillow(io.BytesIO(raw)).size == GENERATED_PX
        # One to three bits a pixel.
        assert 1 < 8 * len(raw) / (GENERATED_PX[0] * GENERATED_PX[1]) < 3


def test_the_plot_shows_every_batch_twice_and_higher_is_more() -> None:
    batches = [
        Batch(size=size, ms=size, images_per_s=rate, calls=1, steady=True)
        for size, rate in ((1, 90.0), (2, 160.0), (4, 250.0))
    ]
    root = ElementTree.fromstring(batch_plot("a <b> & c", batches, chosen=2))
    circles = [element for element in root.iter() if element.tag.endswith("circle")]
    assert [circle[0].text for circle in circles[:2]] == ["batch 1: 90 images/s", "batch 2: 160 images/s"]
    heights = [float(circle.attrib["cy"]) for circle in circles]
    assert heights[:3] == sorted(heights[:3], reverse=True)
    assert [circle.attrib["r"] for circle in circles].count("6") == 2
    assert "a <b> & c" in [element.text for element in root.iter()]
