"""How fast a service could be here: each part of the work measured alone, and what follows from the sum.

Servers, stages and model share the cores, so the bound is cores / (the sum of their CPU seconds an image).
A module that waits for a device has a second bound: what its workers' devices can do. The lower one holds.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import msgspec

from benchmarks import alone
from benchmarks.alone import ModuleCost, Spent
from benchmarks.figures import Sheet
from benchmarks.usage import Servers
from benchmarks.workload import Workplace
from consumers.analyzer.process_environment import prepare_environment

IMAGES = 300
"""Images that each process fetches or decodes."""
PATIENCE_S = 120.0

T = TypeVar("T")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """CPU milliseconds an image of each part, and rates of the parts alone."""

    fetch_ms: float
    decode_ms: float
    """At the scale that the module asks for."""
    decode_full_ms: float
    """All pixels: no part of the bound, but what others do."""
    preprocess_ms: float
    preprocess_full_ms: float
    """Of all pixels: no part of the bound either."""
    infer_ms: float
    """At the best batch size."""
    s3_ms: float
    kafka_ms: float
    best_batch: int
    fetch_decode_rate: float
    """Images a second, fetch and decode alone on all cores."""
    module_rate: float
    """Images a second of all workers' modules alone at their best batch, on cores or devices."""
    single_image_ms: float
    """Time of one image, from GET to detections, with nothing else going on."""
    cores: int

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds that an image takes at least, servers included."""
        parts = (self.fetch_ms, self.decode_ms, self.preprocess_ms, self.infer_ms, self.s3_ms, self.kafka_ms)
        return sum(parts)

    @property
    def cpu_rate(self) -> float:
        """Images a second that the cores allow."""
        return self.cores * 1000 / self.cpu_ms

    @property
    def rate(self) -> float:
        """The bound: the lower of what cores and devices allow."""
        return min(self.cpu_rate, self.module_rate)

    def efficiency(self, measured_rate: float) -> float:
        """The share of the bound that was reached."""
        return measured_rate / self.rate


def measure(
    place: Workplace, servers: Servers, module: str, workers: int, kafka_ms: float, most: int | None = None
) -> Bounds:
    """Measures every part, one after the other.

    Args:
        kafka_ms: as `pass_through.kafka_ms`, which is the same for all modules.
        most: images that each process fetches or decodes, where that is to be fewer than `IMAGES`.
    """
    images = min(IMAGES, most or IMAGES)
    where = (place.s3, place.bucket, place.keys)
    with _crew(workers) as crew:
        crew.do(alone.fetch, *where, len(place.keys))
        before = servers.cpu_seconds("s3")
        fetched = crew.do(alone.fetch, *where, images)
        s3_s = servers.cpu_seconds("s3") - before
        decoded = crew.do(alone.decode, *where, module, images)
        decoded_full = crew.do(alone.decode, *where, None, images)
        both = crew.do(alone.fetch_and_decode, *where, module, images)
        costs = crew.do(alone.run_module, *where, module)
        single_ms = crew.one(alone.single_image_ms, *where, module)
    best = max(costs[0].infer, key=lambda size: _module_rate(costs, size))
    return Bounds(
        fetch_ms=_cpu_ms(fetched),
        decode_ms=_cpu_ms(decoded),
        decode_full_ms=_cpu_ms(decoded_full),
        preprocess_ms=_cpu_ms([cost.preprocess for cost in costs]),
        preprocess_full_ms=_cpu_ms([cost.preprocess_full for cost in costs]),
        infer_ms=_cpu_ms([cost.infer[best] for cost in costs]),
        s3_ms=s3_s / _images(fetched) * 1000,
        kafka_ms=kafka_ms,
        best_batch=best,
        fetch_decode_rate=_rate(both),
        module_rate=_module_rate(costs, best),
        single_image_ms=single_ms,
        cores=os.cpu_count() or 1,
    )


def record(sheet: Sheet, module: str, bounds: Bounds) -> None:
    """Writes the bounds down as figures."""
    prefix = f"bounds.{module}"
    for part in ("fetch", "decode", "decode_full", "preprocess", "preprocess_full", "infer", "s3", "kafka"):
        sheet.add(f"{prefix}.{part}_cpu", getattr(bounds, f"{part}_ms"), "ms/image")
    sheet.add(f"{prefix}.cpu", bounds.cpu_ms, "ms/image")
    sheet.add(f"{prefix}.best_batch", bounds.best_batch, "images")
    sheet.add(f"{prefix}.fetch_decode_alone", bounds.fetch_decode_rate, "images/s")
    sheet.add(f"{prefix}.module_alone", bounds.module_rate, "images/s")
    sheet.add(f"{prefix}.cores_allow", bounds.cpu_rate, "images/s")
    sheet.add(f"{prefix}.bound", bounds.rate, "images/s")
    sheet.add(f"{prefix}.single_image", bounds.single_image_ms, "ms")


class _Crew:
    """Processes that do the same, all at once or one alone."""

    def __init__(self, pool: ProcessPoolExecutor, size: int) -> None:
        self._pool = pool
        self._size = size

    def do(self, function: Callable[..., T], *arguments: Any) -> list[T]:
        """What each process returned."""
        futures = [self._pool.submit(function, *arguments) for _ in range(self._size)]
        return [future.result(PATIENCE_S) for future in futures]

    def one(self, function: Callable[..., T], *arguments: Any) -> T:
        """What one of them returned, while the others rest."""
        return self._pool.submit(function, *arguments).result(PATIENCE_S)


@contextlib.contextmanager
def _crew(size: int) -> Iterator[_Crew]:
    prepare_environment()  # that of the analyzer's workers
    with ProcessPoolExecutor(size, get_context("spawn")) as pool:
        yield _Crew(pool, size)


def _module_rate(costs: list[ModuleCost], size: int) -> float:
    """Images a second of all processes in batches of `size`."""
    return sum(cost.infer[size].images / cost.infer[size].wall_s for cost in costs)


def _images(spent: list[Spent]) -> int:
    return sum(each.images for each in spent)


def _cpu_ms(spent: list[Spent]) -> float:
    return sum(each.cpu_s for each in spent) / _images(spent) * 1000


def _rate(spent: list[Spent]) -> float:
    return _images(spent) / max(each.wall_s for each in spent)
