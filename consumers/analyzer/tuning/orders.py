"""What a measuring process is asked to do, and what it answers."""

import msgspec

from consumers.analyzer.tuning.figures import Combination, Skipped
from infra.settings import AnalyzerSettings


class BenchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a measuring process is told at its start."""

    index: int
    device: str
    settings: AnalyzerSettings
    files: tuple[str, ...]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The first answer: the model is loaded, and the files were looked at."""

    name: str
    version: str
    max_batch: int
    timeout_s: float
    files: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    memory_bytes: int
    """What the process holds of the machine's memory."""


class Prepare(msgspec.Struct, frozen=True, kw_only=True):
    """Decode and preprocess; answered with a `Preparation`."""

    threads: int
    seconds: float


class Infer(msgspec.Struct, frozen=True, kw_only=True):
    """Infer batches of growing size; answered with a `BatchSweep`."""

    seconds: float


class FillPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """Run the whole pipeline under full load; answered with a `FullLoad`."""

    combination: Combination
    seconds: float


class PacePipeline(msgspec.Struct, frozen=True, kw_only=True):
    """Run it with images at a rate; answered with each one's milliseconds."""

    combination: Combination
    images_per_s: float
    seconds: float


Order = Prepare | Infer | FillPipeline | PacePipeline
