"""Exit codes of every command and process."""

from enum import IntEnum

from schemas.errors import ErrorCode


class ExitCode(IntEnum):
    """What the shell, a supervisor or an orchestrator sees when a process ends."""

    OK = 0
    FAILED = 1
    """The command ran, and some of what it was asked for failed."""
    USAGE = 2
    """Arguments, a setting or a named file are wrong: trying again changes nothing."""
    UNAVAILABLE = 3
    """Kafka, the object store or the database does not answer, or lacks what was never set up."""
    MODULE = 4
    """The module cannot be found, breaks the contract or cannot load its model."""
    FENCED = 5
    """Another live process uses this one's transactional id."""
    DRAIN_TIMEOUT = 6
    """Stopped with work unfinished: the drain time ran out. The work is done again after a restart."""
    DEVICE = 7
    """The device has no memory for even a single image, or failed: what a restart may well mend."""
    FAILURES = 8
    """The module failed at so many images that it was stopped before it could answer the whole topic so."""
    CRASHED = 70
    """A bug: the traceback is in the log."""
    INTERRUPTED = 130
    """Stopped by a second signal, or by Ctrl-C where there is nothing to drain."""


_BY_CODE = {
    ErrorCode.SETTING_INVALID: ExitCode.USAGE,
    ErrorCode.USAGE: ExitCode.USAGE,
    ErrorCode.INPUT_NOT_FOUND: ExitCode.USAGE,
    ErrorCode.KAFKA_UNAVAILABLE: ExitCode.UNAVAILABLE,
    ErrorCode.TOPIC_NOT_FOUND: ExitCode.UNAVAILABLE,
    ErrorCode.TOPIC_MISMATCH: ExitCode.UNAVAILABLE,
    ErrorCode.S3_UNAVAILABLE: ExitCode.UNAVAILABLE,
    ErrorCode.BUCKET_NOT_FOUND: ExitCode.UNAVAILABLE,
    ErrorCode.OBJECT_ACCESS_DENIED: ExitCode.UNAVAILABLE,
    ErrorCode.DATABASE_UNAVAILABLE: ExitCode.UNAVAILABLE,
    ErrorCode.DATABASE_NOT_MIGRATED: ExitCode.UNAVAILABLE,
    ErrorCode.DATABASE_MIGRATION_CHANGED: ExitCode.UNAVAILABLE,
    ErrorCode.STACK_PORT_TAKEN: ExitCode.UNAVAILABLE,
    ErrorCode.STACK_START_FAILED: ExitCode.UNAVAILABLE,
    ErrorCode.STACK_DOWNLOAD_FAILED: ExitCode.UNAVAILABLE,
    ErrorCode.STACK_CHECKSUM_MISMATCH: ExitCode.UNAVAILABLE,
    ErrorCode.MODULE_NOT_FOUND: ExitCode.MODULE,
    ErrorCode.MODULE_INVALID: ExitCode.MODULE,
    ErrorCode.MODULE_LOAD_FAILED: ExitCode.MODULE,
    ErrorCode.DEVICE_OUT_OF_MEMORY: ExitCode.DEVICE,
    ErrorCode.DEVICE_FAILED: ExitCode.DEVICE,
    ErrorCode.PRODUCER_FENCED: ExitCode.FENCED,
    ErrorCode.TOO_MANY_FAILURES: ExitCode.FAILURES,
}


def exit_code(code: ErrorCode) -> ExitCode:
    """The exit code of a command that ends with this failure."""
    return _BY_CODE.get(code, ExitCode.FAILED)
