"""The steps of the conformance check: each returns what it saw, or raises `Fault` or `Doubt`."""

import gc
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice, pairwise
from multiprocessing.connection import Connection
from typing import Any

import psutil
from PIL import Image

from modules.answers import Answer, alike, read_answers
from modules.check_images import SampleImage
from modules.check_subject import Doubt, Fault, Subject, described
from modules.loading import load_model, load_module

THREADS = 8
WINDOWS = 4
LEAK_BYTES = 512 * 2**10
"""Memory that grows by more than this in each window of the same work is taken for a leak."""
CHILD_TIMEOUT_S = 300.0
OUTSIDE_PX = 1.0


def single_images(subject: Subject) -> str:
    """Each image alone, whatever its size; these answers are what the later checks expect."""
    outside, spent = None, []
    for index, sample in enumerate(subject.samples):
        started = time.monotonic()
        try:
            answer = subject.infer([subject.prepare(index)])[0]
        except Exception as error:
            raise Fault(f"image {sample.name!r}: {described(error)}") from error
        subject.alone.append(answer)
        outside = outside or _outside(sample, answer)
        spent.append(time.monotonic() - started)
    subject.alone_s = statistics.mean(spent[index] for index in subject.small())
    if max(spent) > subject.limits.timeout_s:
        raise Fault(f"one image takes {max(spent):.0f} s; raise timeout_s ({subject.limits.timeout_s:g} s)")
    if outside:
        raise Doubt(outside)
    found = sum(1 for answer in subject.alone if answer)
    return f"{len(subject.alone)} answered, {found} with detections, {subject.alone_s * 1000:.0f} ms each"


def empty_batch(subject: Subject) -> str:
    """An empty batch gets an empty answer."""
    subject.infer([])
    return "answered with nothing"


def batch_order(subject: Subject) -> str:
    """Batches in several orders: each image is answered as it is alone, at its own place."""
    indexes = list(range(len(subject.samples)))
    for order in (indexes, indexes[::-1]):
        for start in range(0, len(order), subject.limits.max_batch):
            _expect(subject, order[start : start + subject.limits.max_batch])
    if not _tell_apart(subject.alone):
        raise Doubt("all images have the same answer, so a wrong order would not show: give --images")
    return "each image answered at its own place"


def full_batch(subject: Subject) -> str:
    """As many small images of one kind as one batch may hold."""
    size = subject.limits.max_batch
    order = list(islice(cycle(subject.same_kind()), size))
    started = time.monotonic()
    _expect(subject, order)
    spent = time.monotonic() - started
    if spent > subject.limits.timeout_s:
        raise Fault(f"{size} images take {spent:.0f} s; lower max_batch or raise timeout_s")
    return f"{size} images in {spent * 1000:.0f} ms"


def repeated_batch(subject: Subject) -> str:
    """The same prepared images again: a worker does so after a failure in their batch."""
    order = subject.small()[: subject.limits.max_batch]
    items = [subject.prepare(index) for index in order]
    first, second = subject.infer(items), subject.infer(items)
    if not all(map(alike, first, second)):
        raise Doubt("the second time the answers differ: infer is random, or changes the items of its batch")
    return "the same answers twice"


def submitted_ahead(subject: Subject) -> str:
    """Where a module can leave its device at work: two batches under way at once, collected in order."""
    module: Any = subject.module
    halves = [name for name in ("submit", "collect") if hasattr(module, name)]
    if not halves:
        return "not offered"
    if len(halves) == 1:
        raise Fault(f"it has `{halves[0]}` alone; `submit` and `collect` come together")
    order = subject.same_kind()[: subject.limits.max_batch]
    batches = [order, order[1:] + order[:1]]
    handles = [module.submit([subject.prepare(index) for index in batch]) for batch in batches]
    for batch, handle in zip(batches, handles, strict=True):
        answers = read_answers(module.collect(handle), len(batch))
        for index, answer in zip(batch, answers, strict=True):
            if not alike(answer, subject.alone[index]):
                name = subject.samples[index].name
                raise Fault(f"image {name!r}: `collect` answers otherwise than `infer` while a batch follows")
    return "two batches under way at once, answered as by infer"


def preprocess_in_threads(subject: Subject) -> str:
    """Several threads prepare the same images at once, and each image is answered as before."""
    small = subject.small()
    share = min(len(small), subject.affordable(2 * THREADS, 2000) // THREADS)
    orders = [list(islice(cycle(small), shift, shift + share)) for shift in range(THREADS)]
    rounds = subject.affordable(1, 2000) // (share * THREADS) or 1
    for _ in range(rounds):
        for mine, items in zip(orders, _prepare_at_once(subject, orders), strict=True):
            subject.expect(mine, items, "prepared while other threads prepared theirs, ")
    return f"{THREADS} threads, {rounds * THREADS * share} images"


def memory(subject: Subject) -> str:
    """The same work again and again: what grows in each of several equal windows is a leak."""
    images = subject.affordable(WINDOWS + 1, 3000) // (WINDOWS + 1)
    order = list(islice(cycle(subject.small()), images))
    sizes = [_resident_bytes_after(subject, order) for _ in range(WINDOWS + 1)]
    steps = [after - before for before, after in pairwise(sizes)]
    if min(steps) > LEAK_BYTES:
        each = min(steps) / images / 1024
        raise Fault(
            f"memory grows by {each:.0f} KiB an image and never stops: something keeps what it was given"
        )
    return f"steady over {WINDOWS * images} images ({sizes[-1] / 2**20:.0f} MiB resident)"


def spawned_process(subject: Subject) -> str:
    """A new process loads the module from its name and answers alike, as workers do."""
    index = subject.small()[0]
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, subject.spec, subject.device, subject.samples[index].image)
    process = context.Process(target=_answer, args=arguments, daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(CHILD_TIMEOUT_S) else f"no answer in {CHILD_TIMEOUT_S:g} s"
    except EOFError:
        answer = "it died"
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        raise Fault(f"in a new process: {answer}")
    if not alike(answer, subject.alone[index]):
        raise Fault("a new process answers the same image otherwise: the model must not depend on this one")
    return "loads and answers alike"


CHECKS: tuple[Callable[[Subject], str], ...] = (
    single_images,
    empty_batch,
    batch_order,
    full_batch,
    repeated_batch,
    submitted_ahead,
    preprocess_in_threads,
    memory,
    spawned_process,
)


def _expect(subject: Subject, order: list[int]) -> None:
    subject.expect(order, [subject.prepare(index) for index in order])


def _tell_apart(answers: list[Answer]) -> bool:
    return any(not alike(answers[0], other) for other in answers[1:])


def _outside(sample: SampleImage, answer: Answer) -> str | None:
    width, height = sample.image.size
    for detection in answer:
        box = detection.box
        low, right, bottom = min(box.x, box.y), box.x + box.w, box.y + box.h
        if low < -OUTSIDE_PX or right > width + OUTSIDE_PX or bottom > height + OUTSIDE_PX:
            return f"image {sample.name!r} ({width}x{height}): {box} reaches outside; the worker will clip it"
    return None


def _prepare_at_once(subject: Subject, orders: list[list[int]]) -> list[list[Any]]:
    """Each order's images in a thread of its own, all starting together."""
    barrier = threading.Barrier(len(orders))

    def prepare(order: list[int]) -> list[Any]:
        barrier.wait(timeout=60)
        return [subject.prepare(index) for index in order]

    with _fast_switching(), ThreadPoolExecutor(len(orders)) as threads:
        return list(threads.map(prepare, orders))


@contextmanager
def _fast_switching() -> Iterator[None]:
    """Lets threads take turns far more often, so that what they share is caught in the act."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _resident_bytes_after(subject: Subject, order: list[int]) -> int:
    size = subject.limits.max_batch
    for start in range(0, len(order), size):
        subject.infer([subject.prepare(index) for index in order[start : start + size]])
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _answer(sender: Connection, spec: str, device: str, image: Image.Image) -> None:
    """Runs in the new process: sends the answer, or a text that says why there is none."""
    try:
        module = load_module(spec)
        load_model(module, device)
        sender.send(read_answers(module.infer([module.preprocess(image)]), 1)[0])
    except Exception as error:  # noqa: BLE001 - the module's code may raise anything
        sender.send(described(error))
