"""Starts the workers, restarts those that die, and stops them."""

import contextlib
import logging
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from consumers.analyzer.deaths import Deaths, OutOfMemoryKills, describe
from consumers.analyzer.devices import device_of, gpu_count, worker_count
from consumers.analyzer.process_environment import prepare_environment
from consumers.analyzer.reaper import Reaper
from consumers.analyzer.slots import Slot
from consumers.analyzer.supervision import JOIN, LOADED, READY
from consumers.analyzer.watchdog import STUCK_S, CrashBrake, Watchdog
from consumers.analyzer.worker import FORCED_EXIT_S, WorkerConfig, run
from infra.exit_codes import ExitCode
from infra.health import Health, HealthServer, Heartbeat
from infra.kafka import partition_counts, require_topics
from infra.lifecycle import StopSignals, announce_ready
from infra.settings import AnalyzerSettings, KafkaSettings, S3Settings

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LAST_BACKOFF_S = 30.0
HEALTHY_S = 60.0
MAX_FAILED_STARTS = 3
GATHER_S = 5.0
"""At the start, how long a worker that is loaded waits for the others, to join the group with them."""

_POINTLESS = frozenset({ExitCode.USAGE, ExitCode.FENCED, ExitCode.FAILURES})
"""Ends that another start would only repeat."""


class _Slot(msgspec.Struct, kw_only=True):
    """One worker's place: the process in it, or when the next one starts."""

    config: WorkerConfig
    process: BaseProcess | None = None
    channel: Connection | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    waiting: bool = False
    """Loaded, and not told yet to join the group."""
    ready: bool = False
    ever_ready: bool = False
    failed_starts: int = 0
    backoff_s: float = FIRST_BACKOFF_S
    watchdog: Watchdog | None = None


class Supervisor:
    """The analyzer's parent process; it imports no module and loads no model.

    A worker that was ready once is restarted for as long as it takes. One that dies three times before it
    was ever ready (a module that does not load, say) ends the analyzer with the worker's exit code.
    """

    def __init__(self, analyzer: AnalyzerSettings, kafka: KafkaSettings, s3: S3Settings) -> None:
        self._analyzer = analyzer
        self._kafka = kafka
        self._s3 = s3
        self._context = multiprocessing.get_context("spawn")
        self._instance = Slot()
        self._deaths = Deaths(self._instance.folder)
        self._memory_kills = OutOfMemoryKills()
        self._slots: list[_Slot] = []
        self._gather_until: float | None = None
        self._announced = False
        self._heartbeat = Heartbeat(time.monotonic)
        self._crashes = CrashBrake(analyzer.max_crashes)
        self._reaper: Reaper | None = None

    def run(self) -> ExitCode:
        """Runs until a signal, or an end that a restart would only repeat.

        Raises:
            KafkaUnavailable, TopicNotFound: there is nothing to start with.
        """
        server = HealthServer(self._analyzer.health_address, self._live, self._ready)
        with StopSignals(on_force=self._kill) as signals, server:
            code = None
            try:
                self._startup()
                while code is None and not signals.stopping.is_set():
                    code = self._step()
            except BaseException:
                # Processes that outlive this one's end would keep it from ending.
                self._kill()
                raise
            ended = self._shutdown() if code is None else self._fail(code)
            if self._reaper is not None:
                self._reaper.close()
            return ended

    def _startup(self) -> None:
        kafka = self._kafka
        require_topics(kafka, [kafka.images_topic, kafka.results_topic, kafka.dead_letters_topic])
        partitions = partition_counts(kafka, [kafka.images_topic, kafka.results_topic])
        gpus = gpu_count(self._analyzer)
        count = worker_count(self._analyzer, partitions[kafka.images_topic], gpus)
        instance = f"{self._analyzer.instance_id}-{os.getuid()}-{self._instance.claim()}"
        logger.info(
            "starting %d workers of %s as %s on %s",
            count,
            self._analyzer.module,
            instance,
            f"{gpus} GPUs" if gpus else "the CPU",
        )
        self._deaths.tidy()
        self._reaper = Reaper(self._analyzer.drain_timeout_s + FORCED_EXIT_S)
        prepare_environment()
        self._slots = [
            _Slot(
                config=WorkerConfig(
                    index=index,
                    instance=instance,
                    records=self._instance.folder,
                    slot=self._instance.path,
                    device=device_of(index, gpus),
                    workers=count,
                    results_partitions=partitions[kafka.results_topic],
                    analyzer=self._analyzer,
                    kafka=kafka,
                    s3=self._s3,
                )
            )
            for index in range(count)
        ]

    def _step(self) -> ExitCode | None:
        self._heartbeat.beat()
        for slot in self._slots:
            if slot.process is None and time.monotonic() >= slot.start_at:
                self._start(slot)
        self._hear()
        self._memory_kills.look(time.monotonic())
        for slot in self._slots:
            if slot.process is not None and slot.watchdog is not None:
                slot.watchdog.look(slot.process, time.monotonic())
            if slot.process is not None and slot.process.exitcode is not None:
                code = self._bury(slot)
                if code is not None:
                    return code
        return None

    def _start(self, slot: _Slot) -> None:
        owner = f"{slot.config.instance}.{slot.config.index}.{uuid4().hex[:8]}"
        slot.config = replace(slot.config, owner=owner)
        slot.channel, theirs = self._context.Pipe()
        slot.process = self._context.Process(
            target=run, args=(slot.config, theirs), name=f"worker-{slot.config.index}", daemon=False
        )
        with _without_interrupts():
            slot.process.start()
        if self._reaper is not None and slot.process.pid is not None:
            self._reaper.watch(slot.process.pid)
        theirs.close()
        slot.waiting = slot.ready = False
        slot.watchdog = Watchdog(slot.process.name, owner, self._deaths, self._memory_kills)
        slot.started_at = time.monotonic()

    def _hear(self) -> None:
        """Waits a moment for a worker's word or end."""
        by_channel = {slot.channel: slot for slot in self._slots if slot.channel is not None}
        sentinels = [slot.process.sentinel for slot in self._slots if slot.process is not None]
        for source in wait([*by_channel, *sentinels], timeout=0.2):
            slot = by_channel.get(source) if isinstance(source, Connection) else None
            if slot is not None and slot.channel is not None:
                self._read(slot, slot.channel)
        self._let_join()
        if not self._announced and self._slots and all(slot.ready for slot in self._slots):
            self._announced = True
            logger.info("all workers are ready")
            announce_ready()

    def _read(self, slot: _Slot, channel: Connection) -> None:
        try:
            word = channel.recv()
        except (EOFError, OSError):
            channel.close()
            slot.channel = None
            return
        if word == LOADED:
            slot.waiting = True
        elif word == READY:
            slot.ready = slot.ever_ready = True
            logger.info("worker %d is ready on %s", slot.config.index, slot.config.device)

    def _let_join(self) -> None:
        """Lets workers join the group: at the start all at once, later each as soon as it is loaded.

        Joining one after the other is a rebalance each, and each takes partitions from those at work.
        """
        waiting = [slot for slot in self._slots if slot.waiting]
        if not waiting:
            return
        if self._gather_until is None:
            self._gather_until = time.monotonic() + GATHER_S
        if len(waiting) < len(self._slots) and time.monotonic() < self._gather_until:
            return
        self._gather_until = 0.0
        for slot in waiting:
            slot.waiting = False
            with contextlib.suppress(OSError):  # its end is seen in the next step
                if slot.channel is not None:
                    slot.channel.send(JOIN)

    def _live(self) -> Health:
        silent_s = self._heartbeat.silent_s()
        return Health(silent_s < STUCK_S, {"silent_s": round(silent_s, 1)})

    def _ready(self) -> Health:
        ready = [slot.config.index for slot in self._slots if slot.process is not None and slot.ready]
        return Health(
            bool(self._slots) and len(ready) == len(self._slots),
            {"workers": len(self._slots), "ready_workers": ready},
        )

    def _bury(self, slot: _Slot) -> ExitCode | None:
        """Clears a dead worker's place and plans the next start; or says why there is to be none."""
        assert slot.process is not None
        status = slot.process.exitcode or 0
        blamed = slot.watchdog is not None and slot.watchdog.note_end(status) is not None
        if blamed and self._crashes.count(time.monotonic()):
            return ExitCode.FAILURES
        lived_s = time.monotonic() - slot.started_at
        if slot.channel is not None:
            slot.channel.close()
        slot.process, slot.channel, slot.waiting = None, None, False
        if not slot.ever_ready:
            slot.failed_starts += 1
        if status in _POINTLESS or slot.failed_starts >= MAX_FAILED_STARTS:
            return _as_exit_code(status)
        # The next one goes about the same images differently.
        if blamed or (slot.ready and lived_s >= HEALTHY_S):
            slot.backoff_s = FIRST_BACKOFF_S
        delay_s = slot.backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads restarts
        slot.backoff_s = min(slot.backoff_s * 2, LAST_BACKOFF_S)
        slot.start_at = time.monotonic() + delay_s
        logger.warning(
            "worker %d ended (%s) after %.1f s; it starts again in %.1f s",
            slot.config.index,
            describe(status),
            lived_s,
            delay_s,
        )
        return None

    def _shutdown(self) -> ExitCode:
        """Stops the workers:

        1. SIGTERM to all at once, so that they drain side by side;
        2. wait for the drain time and a margin for leaving the group;
        3. kill what is left: its work is uncommitted and done again later.
        """
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._analyzer.drain_timeout_s + FORCED_EXIT_S
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
        self._kill()
        for slot in self._slots:
            if slot.process is not None:
                slot.process.join()
                if slot.watchdog is not None:
                    slot.watchdog.note_end(slot.process.exitcode or 0)
        codes = {process.exitcode for process in running}
        self._instance.release()
        logger.info("stopped")
        # A worker that had no time to listen for signals had no time to begin anything either.
        harmless = {ExitCode.OK, -signal.SIGTERM}
        return ExitCode.OK if codes <= harmless else ExitCode.DRAIN_TIMEOUT

    def _fail(self, code: ExitCode) -> ExitCode:
        logger.error("the workers cannot run: %s", describe(code))
        self._shutdown()
        return code

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.is_alive():
                slot.process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C from a process that starts here, until it can ignore it; this one hears it afterwards."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _as_exit_code(status: int) -> ExitCode:
    try:
        return ExitCode(status) or ExitCode.CRASHED
    except ValueError:
        return ExitCode.CRASHED
