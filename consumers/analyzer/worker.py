"""One process of the analyzer: one consumer of the group, one loaded module, one device."""

import logging
import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.analyzer.account import Account, save
from consumers.analyzer.answers import Answers
from consumers.analyzer.intake import Intake
from consumers.analyzer.pipeline import Pipeline, default_image_threads
from consumers.analyzer.polling import Poller
from consumers.analyzer.publishing import Publisher, Stopped
from consumers.analyzer.store import ObjectStore
from consumers.analyzer.supervision import Supervision
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
    supervision = Supervision(channel, stopping, config.analyzer.drain_timeout_s + FORCED_EXIT_S)
    supervision.start()
    # Threads of the pipeline may be deep in native code: they end with the process, not before it.
    os._exit(_run(config, supervision, stopping))


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
    publisher = _publisher(config, group, account, stopping)
    pipeline = _pipeline(config, module, account, stopping)
    # What the user's own file says comes later and wins.
    consumer = make_consumer(
        {"max.partition.fetch.bytes": FETCH_BYTES, **consumer_config(config.kafka, group)}
    )
    try:
        intake = Intake(module.name, _topic_id(config.kafka, stopping), config.s3.allowed_buckets)
        publisher.start()
        supervision.wait_to_join()
    except Stopped:
        return ExitCode.OK
    poller = Poller(consumer, config.kafka, intake, pipeline, publisher, config.analyzer)
    try:
        pipeline.start()
        poller.subscribe()
        while not stopping.is_set():
            poller.step()
            if poller.ready:
                supervision.tell_ready()
        logger.info("stopping: finishing what was begun")
        drained = poller.drain()
    except Stopped:
        logger.warning("told to stop while Kafka is away")
        return ExitCode.DRAIN_TIMEOUT
    poller.close()
    publisher.close()
    if config.analyzer.account_dir:
        save(pipeline.report(), config.analyzer.account_dir, config.index)
    return ExitCode.OK if drained else ExitCode.DRAIN_TIMEOUT


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
    config: WorkerConfig, module: Module[Any], account: Account, stopping: threading.Event
) -> Pipeline:
    return Pipeline(
        module,
        ObjectStore(config.s3),
        Answers(ModuleIdentity(module.name, module.version)),
        config.analyzer,
        config.analyzer.image_threads or default_image_threads(config.workers),
        account,
        stopping,
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


def _publisher(config: WorkerConfig, group: str, account: Account, stopping: threading.Event) -> Publisher:
    transactional_id = f"{group}.{config.instance}.{config.index}"
    return Publisher(
        transactional_config(config.kafka, transactional_id, config.analyzer.transaction_timeout_ms),
        config.kafka.results_topic,
        config.results_partitions,
        config.kafka.dead_letters_topic,
        group,
        account,
        stopping,
    )
