"""Parts of the work, each done alone in processes of its own: what the bounds are made of.

Everything here runs in child processes, one for each worker that a bound is for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from statistics import median
from typing import Any

import msgspec
from PIL.Image import Image

from consumers.analyzer.fetching import LEAST_FETCHES
from consumers.analyzer.store import ObjectStore
from infra.images.decoding import open_image
from infra.settings import S3Settings
from modules.contract import Module, ModuleTraits
from modules.loading import load_model, load_module
from schemas.messages import ImageReference

GET_THREADS = LEAST_FETCHES
MAX_PIXELS = 100_000_000
LEAST_S = 0.6
"""A batch size is tried for this long, and at least `LEAST_CALLS` times."""
LEAST_CALLS = 3
PASSES = 4
SINGLES = 20


class Spent(msgspec.Struct, frozen=True):
    """What one process took for its images."""

    images: int
    cpu_s: float
    wall_s: float


class ModuleCost(msgspec.Struct, frozen=True):
    """One process's module: what preparing takes, and inference at each batch size."""

    preprocess: Spent
    preprocess_full: Spent
    """Of images that were decoded in full."""
    infer: dict[int, Spent]


def fetch(s3: S3Settings, bucket: str, keys: Sequence[str], count: int) -> Spent:
    """GETs as the analyzer sends them, several at once."""
    store = ObjectStore(s3)

    def one(key: str) -> None:
        store.open(ImageReference(bucket, key), key).read()

    return _spent(count, lambda: _on_threads(one, keys, count))


def decode(s3: S3Settings, bucket: str, keys: Sequence[str], module: str | None, count: int) -> Spent:
    """Decoding as for `module`, or in full, of files in memory."""
    size = _traits(module).decode_size_px if module else None
    files = _files(s3, bucket, keys)

    def all_files() -> None:
        # One after the other: pixels that nobody drops would be new memory for each image.
        for file in islice(cycle(files), count):
            _pixels(file, size)

    return _spent(count, all_files)


def fetch_and_decode(s3: S3Settings, bucket: str, keys: Sequence[str], module: str, count: int) -> Spent:
    """Both, several at once."""
    size, store = _traits(module).decode_size_px, ObjectStore(s3)

    def one(key: str) -> None:
        _pixels(store.open(ImageReference(bucket, key), key).read(), size)

    return _spent(count, lambda: _on_threads(one, keys, count))


def run_module(s3: S3Settings, bucket: str, keys: Sequence[str], module: str) -> ModuleCost:
    """Preprocessing, then inference at batch sizes up to the module's own limit, in one thread."""
    loaded = load_module(module)
    load_model(loaded, "cpu")
    traits = ModuleTraits.of(loaded)
    files = _files(s3, bucket, keys)
    images = [_pixels(file, traits.decode_size_px) for file in files]
    prepared = [loaded.preprocess(image.copy()) for image in images]
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size < traits.max_batch] + [traits.max_batch]
    return ModuleCost(
        preprocess=_preprocess(loaded, images, PASSES),
        preprocess_full=_preprocess(loaded, [_pixels(file, None) for file in files], 1),
        infer={size: _infer(loaded, prepared, size) for size in sizes},
    )


def single_image_ms(s3: S3Settings, bucket: str, keys: Sequence[str], module: str) -> float:
    """The median time of one image from GET to detections, with nothing else going on."""
    loaded, store, size = load_module(module), ObjectStore(s3), _traits(module).decode_size_px
    load_model(loaded, "cpu")

    def one(key: str) -> float:
        started = time.monotonic()
        raw = store.open(ImageReference(bucket, key), key).read()
        loaded.infer([loaded.preprocess(_pixels(raw, size))])
        return (time.monotonic() - started) * 1000

    return median([one(key) for key in islice(cycle(keys), SINGLES)])


def _preprocess(module: Module[Any], images: Sequence[Image], passes: int) -> Spent:
    """Several passes over copies, which a module may change; the copying does not count."""
    cpu_s = wall_s = 0.0
    for _ in range(passes):
        for image in [image.copy() for image in images]:
            began, cpu = time.monotonic(), time.process_time()
            module.preprocess(image)
            cpu_s += time.process_time() - cpu
            wall_s += time.monotonic() - began
    return Spent(passes * len(images), cpu_s, wall_s)


def _infer(module: Module[Any], prepared: Sequence[Any], size: int) -> Spent:
    batches = _batches(prepared, size)
    module.infer(next(batches))
    calls, began, cpu = 0, time.monotonic(), time.process_time()
    while calls < LEAST_CALLS or time.monotonic() - began < LEAST_S:
        module.infer(next(batches))
        calls += 1
    return Spent(calls * size, time.process_time() - cpu, time.monotonic() - began)


def _batches(prepared: Sequence[Any], size: int) -> Iterator[list[Any]]:
    items = cycle(prepared)
    while True:
        yield list(islice(items, size))


def _traits(module: str) -> ModuleTraits:
    return ModuleTraits.of(load_module(module))


def _files(s3: S3Settings, bucket: str, keys: Sequence[str]) -> list[Any]:
    store = ObjectStore(s3)
    return [store.open(ImageReference(bucket, key), key).read() for key in keys]


def _pixels(raw: Any, size: int | None) -> Image:
    opened = open_image(raw, MAX_PIXELS)
    opened.reduce(size)
    return opened.pixels()


def _on_threads(one: Callable[[str], None], keys: Sequence[str], count: int) -> None:
    with ThreadPoolExecutor(GET_THREADS) as threads:
        for _ in threads.map(one, islice(cycle(keys), count)):
            pass


def _spent(images: int, work: Callable[[], object]) -> Spent:
    began, cpu = time.monotonic(), time.process_time()
    work()
    return Spent(images, time.process_time() - cpu, time.monotonic() - began)
