"""The stages of one worker, joined by bounded queues."""

import os
import queue
import threading
from typing import Any

from consumers.analyzer.answers import Answers
from consumers.analyzer.budget import ByteBudget
from consumers.analyzer.fetching import Fetch
from consumers.analyzer.inference import Batcher, Inference
from consumers.analyzer.preparing import Prepare
from consumers.analyzer.stage import Stage, TaskQueue
from consumers.analyzer.store import ObjectStore
from consumers.analyzer.window import Record
from infra.settings import AnalyzerSettings, S3Settings
from modules.contract import Module, ModuleTraits


class Pipeline:
    """Fetch, decode, infer: tasks go in, answers appear on them.

    Bytes wait in two budgets of their own, one for fetched files and one for decoded images: with a
    single one, files that wait to be decoded could hold what decoding needs.
    """

    def __init__(
        self,
        module: Module[Any],
        answers: Answers,
        settings: AnalyzerSettings,
        s3: S3Settings,
        stopping: threading.Event,
    ) -> None:
        threads = settings.image_threads or default_image_threads()
        limit = ModuleTraits.of(module).max_batch
        max_batch = min(settings.max_batch or limit, limit)
        memory = settings.image_memory_bytes // 2
        self._fetch_inbox: TaskQueue = queue.Queue()
        decode_inbox: TaskQueue = queue.Queue(maxsize=4 * threads)
        infer_inbox: TaskQueue = queue.Queue(maxsize=2 * max_batch)
        fetch = Fetch(ObjectStore(s3), settings.max_image_bytes, ByteBudget(memory), decode_inbox, stopping)
        prepare = Prepare(module, settings.max_image_pixels, ByteBudget(memory), infer_inbox)
        self._fetch = Stage("fetch", 4 * threads, self._fetch_inbox, fetch, answers)
        self._prepare = Stage("prepare", threads, decode_inbox, prepare, answers)
        batcher = Batcher(infer_inbox, max_batch, settings.max_wait_ms / 1000)
        self._inference = Inference(module, batcher, answers)

    def start(self) -> None:
        """Starts every stage's threads."""
        self._inference.start()
        self._prepare.start()
        self._fetch.start()

    @property
    def alive(self) -> bool:
        """Whether every stage still works; without one, partitions would be held and nothing answered."""
        return self._fetch.alive and self._prepare.alive and self._inference.alive

    def submit(self, record: Record) -> None:
        """Takes a record's tasks in; the window bounds how many are inside."""
        for task in record.tasks:
            self._fetch_inbox.put(task)


def default_image_threads() -> int:
    """Threads that decode: one a core, since decoding is the CPU's work."""
    return max(2, os.cpu_count() or 2)
