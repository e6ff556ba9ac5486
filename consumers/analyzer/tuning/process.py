"""One measuring process: what a worker is, with a workbench in place of Kafka."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar

from consumers.analyzer.tuning.orders import BenchConfig
from consumers.analyzer.tuning.workbench import Workbench
from infra import logs
from infra.exit_codes import ExitCode
from modules.loading import load_model, load_module
from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

R = TypeVar("R")


def run(config: BenchConfig, parent: Connection) -> None:
    """The process's entry point: loads the module, then does as ordered until the parent is gone."""
    logs.configure()
    # Ctrl-C reaches every process of the terminal; how this one stops is for its parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    os.dup2(2, 1)  # what the module prints: stdout is for the report
    with suppress(EOFError, OSError):  # the parent is gone
        _serve(config, parent)
    # Threads of the pipelines wait for ever: they end with the process, not before it.
    os._exit(ExitCode.OK)


def _serve(config: BenchConfig, parent: Connection) -> None:
    bench = _attempt(config, lambda: _load(config))
    parent.send(bench if isinstance(bench, AnalysisError) else bench.loaded())
    while isinstance(bench, Workbench):
        order = parent.recv()
        parent.send(_attempt(config, lambda order=order: bench.do(order)))  # type: ignore[misc]


def _load(config: BenchConfig) -> Workbench:
    module = load_module(config.settings.module)
    load_model(module, config.device)
    return Workbench(module, config)


def _attempt(config: BenchConfig, call: Callable[[], R]) -> R | AnalysisError:
    try:
        return call()
    except AnalysisError as error:
        return error
    except BaseException as error:
        logger.warning("the module raised", exc_info=error)
        message = f"module {config.settings.module!r} raised {type(error).__name__}: {error}"
        return AnalysisError(ErrorCode.MODULE_ERROR, message)
