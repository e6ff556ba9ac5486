"""One process of the analyzer: one consumer of the group, one loaded module, one device."""

import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.analyzer.account import Account, save
from consumers.analyzer.answers import Answers
from consumers.analyzer.claims import Ownership
from consumers.analyzer.deaths import Deaths
from consumers.analyzer.intake import Intake
from consumers.analyzer.pipeline import Pipeline, default_image_threads
from consumers.analyzer.polling import Poller
from consumers.analyzer.publishing import Publisher, Stopped
from consumers.analyzer.slots import share
from consumers.analyzer.store import ObjectStore
from consumers.analyzer.supervision import Supervision
from consumers.analyzer.watchdog import SHOW_STACKS
from infra import logs
from infra.exit_codes import ExitCode, exit_code
from infra.kafka import KafkaUnavailable, consumer_config, make_consumer, require_topics, transactional_config
from infra.settings import AnalyzerSettings, KafkaSettings, S3Settings
from modules.contract import Module
from modules.loading import load_model, load_module
from schemas.errors import AnalysisError
from schemas.messages import ModuleIdentity

if TYPE_CHECKING:
    from consumers.analyzer.gpu_decoding import TensorDecoder

logger = logging.getLogger(__name__)

FETCH_BYTES = 128 * 1024
"""Of each partition at a time: some hundred requests, about a window. Pausing drops what was fetched beyond
it, and resuming fetches that again."""
UNAVAILABLE_PAUSE_S = 1.0
FORCED_EXIT_S = 15.0
"""Beyond the drain time, how long leaving the group may take."""


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker is told; travels to the spawned process."""

    index: int
    instance: str
    """Names this worker's supervisor among all machines."""
    owner: str = ""
    """Names this very process, in its claims on partitions."""
    records: Path
    """Folder of the flight records of this machine's workers."""
    slot: Path | None
    """The lock on the supervisor's number."""
    device: str
    workers: int
    """How many there are on this machine."""
    results_partitions: int
    analyzer: AnalyzerSettings
    kafka: KafkaSettings
    s3: S3Settings


def run(config: WorkerConfig, channel: Connection) -> None:
    """The process's entry point; ends with a named exit code.

    Args:
        channel: to the supervisor, see `Supervision`.
    """
    logs.configure()
    stopping = threading.Event()
    # Ctrl-C reaches every process of the terminal; how workers stop is for their supervisor to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    # From C, so also while a module holds Python's lock.
    faulthandler.register(SHOW_STACKS, all_threads=True)
    faulthandler.enable()
    number = share(config.slot) if config.slot is not None else None
    supervision = Supervision(channel, stopping, config.analyzer.drain_timeout_s + FORCED_EXIT_S)
    supervision.start()
    # Threads of the pipeline may be deep in native code: they end with the process, not before it.
    code = _run(config, supervision, stopping)
    if number is not None:
        number.close()
    os._exit(code)


def _run(config: WorkerConfig, supervision: Supervision, stopping: threading.Event) -> ExitCode:
    try:
        module = load_module(config.analyzer.module)
        load_model(module, config.device)
        if stopping.is_set():
            return ExitCode.OK
        return _serve(config, module, supervision, stopping)
    except AnalysisError as error:
        logger.error("%s: %s", error.code, error.message, exc_info=error.__cause__)
        return exit_code(error.code)
    except Exception:
        logger.exception("the worker crashed")
        return ExitCode.CRASHED
    finally:
        logging.shutdown()


def _serve(
    config: WorkerConfig, module: Module[Any], supervision: Supervision, stopping: threading.Event
) -> ExitCode:
    group = f"analyzer.{module.name}"
    account = Account(with_cpu=bool(config.analyzer.account_dir))
    answers = Answers(ModuleIdentity(module.name, module.version))
    deaths = Deaths(config.records)
    ownership = Ownership(config.owner, deaths, config.analyzer.window_records)
    pipeline = _pipeline(config, module, answers, account, stopping, deaths.flight_path(config.owner))
    publisher = _publisher(config, group, account, stopping, pipeline.beat)
    # What the user's own file says comes later and wins.
    consumer = make_consumer(
        {"max.partition.fetch.bytes": FETCH_BYTES, **consumer_config(config.kafka, group)}
    )
    try:
        intake = Intake(module.name, _topic_id(config.kafka, stopping), config.s3.allowed_buckets)
        publisher.start()
        supervision.wait_to_join()
        poller = Poller(
            consumer, config.kafka, intake, pipeline, publisher, answers, ownership, config.analyzer
        )
        pipeline.start()
        poller.subscribe()
        drained = _run_until_stopped(poller, supervision, stopping)
        poller.close()
        publisher.close()
    except Stopped:
        logger.warning("told to stop while waiting for Kafka or for the other workers")
        return ExitCode.DRAIN_TIMEOUT if pipeline.started else ExitCode.OK
    finally:
        pipeline.end()
    if config.analyzer.account_dir:
        save(pipeline.report(), config.analyzer.account_dir, config.index)
    return ExitCode.OK if drained else ExitCode.DRAIN_TIMEOUT


def _run_until_stopped(poller: Poller, supervision: Supervision, stopping: threading.Event) -> bool:
    """The main loop; returns whether everything begun was finished."""
    while not stopping.is_set():
        poller.step()
        if poller.ready:
            supervision.tell_ready()
    logger.info("stopping: finishing what was begun")
    return poller.drain()


def _topic_id(kafka: KafkaSettings, stopping: threading.Event) -> str:
    """The id of the images topic, as soon as Kafka answers."""
    topic = kafka.images_topic
    while True:
        try:
            return require_topics(kafka, [topic])[topic]
        except KafkaUnavailable as error:
            logger.warning("%s; trying again", error)
        if stopping.wait(UNAVAILABLE_PAUSE_S):
            raise Stopped


def _pipeline(
    config: WorkerConfig,
    module: Module[Any],
    answers: Answers,
    account: Account,
    stopping: threading.Event,
    flight: Path,
) -> Pipeline:
    return Pipeline(
        module,
        ObjectStore(config.s3),
        answers,
        config.analyzer,
        config.analyzer.image_threads or default_image_threads(config.workers),
        account,
        stopping,
        flight,
        _tensor_decoder(config, module),
    )


def _tensor_decoder(config: WorkerConfig, module: Module[Any]) -> "TensorDecoder | None":
    if config.analyzer.jpeg_decoder == "pillow":
        return None
    if not hasattr(module, "preprocess_tensor"):
        logger.warning("ANALYZER_JPEG_DECODER is left out: %s takes no tensors", module.name)
        return None
    from consumers.analyzer.gpu_decoding import TensorDecoder

    return TensorDecoder(config.device)


def _publisher(
    config: WorkerConfig, group: str, account: Account, stopping: threading.Event, beat: Callable[[], None]
) -> Publisher:
    transactional_id = f"{group}.{config.instance}.{config.index}"
    return Publisher(
        transactional_config(config.kafka, transactional_id, config.analyzer.transaction_timeout_ms),
        config.kafka.results_topic,
        config.results_partitions,
        config.kafka.dead_letters_topic,
        group,
        account,
        stopping,
        beat,
    )
