"""What is measured: one struct a kind of measurement, and the report that holds them all."""

import msgspec


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """Decoding and `preprocess` alone, in `workers` processes with `threads` threads each."""

    workers: int
    threads: int
    images_per_s: float
    cpu_ms: float
    """CPU milliseconds an image, over all threads."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Batches of one size, inferred by one worker that does nothing else."""

    size: int
    ms: float
    """Median time of one batch, from its start to its answers."""
    images_per_s: float
    """With the next batch submitted ahead, where the module can."""
    calls: int
    steady: bool
    """Whether the calls agreed before the time was up."""
    memory_bytes: int | None = None
    """The device's memory at its peak, on CUDA."""


class BatchSweep(msgspec.Struct, frozen=True, kw_only=True):
    """Batches of growing size, and why there are no larger ones."""

    batches: tuple[Batch, ...]
    ended: str = ""
    """Empty where the module's `max_batch` was reached."""


class Combination(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Settings that are tried together; the smaller is the one to prefer, as its fields' order says.

    A worker costs a copy of the model and a partition, a batch memory and waiting, a thread little.
    """

    workers: int
    max_batch: int
    max_wait_ms: float
    threads: int


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """The whole pipeline under full load, with one combination."""

    combination: Combination
    images_per_s: float
    """Median of the runs."""
    runs: tuple[float, ...]
    """Images a second of each."""
    mean_batch: float
    """Images a batch."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From an image's arrival to its answer, where they arrive at random moments."""

    images_per_s: float
    images: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Skipped(msgspec.Struct, frozen=True):
    """A file that the module cannot be shown."""

    file: str
    reason: str


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures are about."""

    module: str
    version: str
    device: str
    cores: int
    images: int
    source: str
    """The folder of the images; empty where they were generated."""
    skipped: tuple[Skipped, ...] = ()


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The settings to use, what to expect of them, and why these."""

    settings: dict[str, str]
    images_per_s: float
    latency: Latency
    current_images_per_s: float | None
    """With the settings in force; None where that could not be measured."""
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    """What was not measured, and why."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `analysis modules bench` found; `--json` prints it."""

    subject: Subject
    inference: BatchSweep
    preparation: tuple[Preparation, ...]
    pipeline: tuple[Throughput, ...]
    advice: Advice
