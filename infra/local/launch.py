"""Starting one component, stopping it, and saying how it is."""

import threading
import time
from datetime import datetime

import msgspec

from infra.local import ports, process
from infra.local.component import Component
from infra.local.log_files import last_lines
from infra.local.state import StackFolder
from schemas.errors import AnalysisError, ErrorCode

_POLL_S = 0.05


class StartFailed(AnalysisError):
    """A component ended, or did not answer in time; the message ends with its last log lines."""

    def __init__(self, name: str, what: str, folder: StackFolder) -> None:
        log = folder.log(name)
        tail = "\n".join(f"  | {line}" for line in last_lines(log, 15))
        super().__init__(
            ErrorCode.STACK_START_FAILED,
            f"{name} {what}; its log is {log}{':' if tail else ''}\n{tail}".strip(),
        )


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a component is: `stopped`, `died`, `starting` (or not answering) or `ready`."""

    name: str
    address: str
    state: str
    pid: int | None = None
    started_at: datetime | None = None
    memory_bytes: int | None = None


def launch(component: Component, folder: StackFolder, cancelled: threading.Event) -> None:
    """Makes sure that a component runs and answers; one that does already is left alone.

    Raises:
        PortTaken: a port it needs belongs to another process.
        StartFailed: it ended or was not ready in time (it is stopped then), or `cancelled` was set.
    """
    record = folder.record(component.name)
    if record is not None and process.alive(record):
        _require_same_ports(component, record)
        _await_ready(component, record, folder, cancelled)
        return
    if record is not None:
        process.kill_all(process.orphans(record))
        folder.forget(component.name)
    ports.require_free(component.name, component.ports)
    component.clean()
    component.prepare()
    record = _start(component, folder)
    try:
        _await_ready(component, record, folder, cancelled)
    except BaseException:
        halt(component, folder)
        raise


def halt(component: Component, folder: StackFolder) -> bool:
    """Stops a component and what is left of it; True if there was a living process to stop."""
    record = folder.record(component.name)
    if record is None:
        return False
    ran = process.alive(record)
    process.stop(record, component.stop_steps)
    component.clean()
    folder.forget(component.name)
    return ran


def inspect(component: Component, folder: StackFolder) -> State:
    """How a component is now, by its process and a real request."""
    record = folder.record(component.name)
    if record is None:
        return State(name=component.name, address=component.address, state="stopped")
    usage = process.usage(record)
    if usage is None:
        return State(name=component.name, address=component.address, state="died")
    return State(
        name=component.name,
        address=component.address,
        state="ready" if component.ready() else "starting",
        pid=record.pid,
        started_at=usage.started_at,
        memory_bytes=usage.memory_bytes,
    )


def _start(component: Component, folder: StackFolder) -> process.Record:
    numbers = [port.number for port in component.ports]
    try:
        record = process.start(component.command(), folder.log(component.name), numbers)
    except OSError as error:
        raise StartFailed(component.name, f"cannot be run: {error}", folder) from None
    folder.keep(component.name, record)
    return record


def _require_same_ports(component: Component, record: process.Record) -> None:
    wanted = tuple(port.number for port in component.ports)
    if wanted != record.ports:
        raise AnalysisError(
            ErrorCode.USAGE,
            f"{component.name} runs on port {record.ports[0]}, but {component.ports[0].variable} "
            f"says {wanted[0]}; run `analysis down` first",
        )


def _await_ready(
    component: Component, record: process.Record, folder: StackFolder, cancelled: threading.Event
) -> None:
    deadline = time.monotonic() + component.start_timeout_s
    while not component.ready():
        if not process.alive(record):
            # Somebody may have taken the port between our look at it and the start.
            ports.require_free(component.name, component.ports)
            raise StartFailed(component.name, "ended while it started", folder)
        if time.monotonic() > deadline:
            raise StartFailed(
                component.name, f"was not ready after {component.start_timeout_s:.0f} s", folder
            )
        if cancelled.wait(_POLL_S):
            raise StartFailed(component.name, "was interrupted while it started", folder)
