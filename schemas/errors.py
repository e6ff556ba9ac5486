"""The one list of failure codes: results, dead letters, metrics, logs and commands take theirs from here."""

from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """A failure's stable name, with its meaning in `description`; `docs/errors.md` lists them all."""

    description: str

    def __new__(cls, code: str, description: str) -> "ErrorCode":
        member = str.__new__(cls, code)
        member._value_ = code
        member.description = description
        return member

    # A record that cannot become a request goes to the dead-letter topic with one of these.
    MESSAGE_EMPTY = (
        "message_empty",
        "The record's value is empty (a null value is a tombstone and is skipped).",
    )
    MESSAGE_NOT_UTF8 = "message_not_utf8", "The record's value is not UTF-8 text."
    MESSAGE_NOT_JSON = "message_not_json", "The record's value is not JSON, or is nested too deeply."
    MESSAGE_INVALID = "message_invalid", "The JSON does not have the shape of a request or of a known event."
    MESSAGE_VERSION_UNSUPPORTED = (
        "message_version_unsupported",
        "The major version is not one this release reads.",
    )
    BUCKET_NOT_ALLOWED = "bucket_not_allowed", "The bucket is not in S3_ALLOWED_BUCKETS."
    KEY_INVALID = (
        "key_invalid",
        "The object key is empty, over 1024 bytes, or has control characters or `.`/`..` segments.",
    )

    # A request that was read but has no detections is answered with a failed result and one of these.
    OBJECT_NOT_FOUND = "object_not_found", "The bucket has no object (or no such version) under this key."
    BUCKET_NOT_FOUND = "bucket_not_found", "The bucket does not exist."
    OBJECT_ACCESS_DENIED = (
        "object_access_denied",
        "The store refuses to hand this object out: no permission, or it is archived or deleted.",
    )
    OBJECT_CHANGED = "object_changed", "The object's ETag is not the one that the request names."
    OBJECT_EMPTY = "object_empty", "The object holds zero bytes."
    OBJECT_TOO_LARGE = "object_too_large", "The object is larger than ANALYZER_MAX_IMAGE_BYTES."
    IMAGE_TOO_LARGE = "image_too_large", "The image has more pixels than ANALYZER_MAX_IMAGE_PIXELS."
    IMAGE_NOT_RECOGNIZED = "image_not_recognized", "The bytes are not an image of any known kind."
    IMAGE_FORMAT_UNSUPPORTED = (
        "image_format_unsupported",
        "The file is of a kind that the service does not decode.",
    )
    IMAGE_CORRUPT = "image_corrupt", "The image is truncated or damaged."
    MODULE_ERROR = "module_error", "The module raised an exception for this image."
    MODULE_CRASHED = "module_crashed", "Worker processes died while they worked on this image."
    MODULE_TIMEOUT = "module_timeout", "The work on this image did not end within the module's `timeout_s`."
    MODULE_OUTPUT_INVALID = "module_output_invalid", "The module's answer breaks the module contract."
    INTERNAL_ERROR = "internal_error", "A bug in the service; the traceback is in the log."
    RESULT_TOO_LARGE = "result_too_large", "The encoded result is larger than the results topic accepts."

    # A result that the database refuses is kept by the sink with this code.
    ROW_REFUSED = "row_refused", "PostgreSQL refuses this row (NUL in a text, say)."

    # A command or process ends with one of these.
    SETTING_INVALID = "setting_invalid", "A setting has a value that its rule does not allow."
    USAGE = "usage", "The command's arguments do not fit together."
    INPUT_NOT_FOUND = "input_not_found", "A file or folder that was named does not exist or cannot be read."
    KAFKA_UNAVAILABLE = "kafka_unavailable", "No Kafka broker answers at KAFKA_BOOTSTRAP_SERVERS."
    TOPIC_NOT_FOUND = "topic_not_found", "A topic does not exist; `analysis topics create` makes it."
    TOPIC_MISMATCH = "topic_mismatch", "A topic's settings are not the ones this service needs."
    S3_UNAVAILABLE = "s3_unavailable", "The object store does not answer at S3_ENDPOINT_URL."
    DATABASE_UNAVAILABLE = "database_unavailable", "PostgreSQL does not answer at DATABASE_URL."
    DATABASE_NOT_MIGRATED = (
        "database_not_migrated",
        "The database lacks tables; `analysis migrate` makes them.",
    )
    DATABASE_MIGRATION_CHANGED = (
        "database_migration_changed",
        "A migration's file was edited after it had been applied.",
    )
    MODULE_NOT_FOUND = "module_not_found", "No module has this name, folder or import path."
    MODULE_INVALID = "module_invalid", "The module's code does not follow the module contract."
    MODULE_LOAD_FAILED = "module_load_failed", "The module could not load its model."
    DEVICE_OUT_OF_MEMORY = "device_out_of_memory", "The device has no memory for even a single image."
    DEVICE_FAILED = "device_failed", "The device refuses every further call of the process."
    TOO_MANY_FAILURES = (
        "too_many_failures",
        "The module fails more often than ANALYZER_MAX_FAILURES_IN_ROW or ANALYZER_MAX_FAILURE_SHARE allow.",
    )
    PRODUCER_FENCED = "producer_fenced", "Another live process uses the same transactional id."
    STACK_PORT_TAKEN = "stack_port_taken", "A port of the local stack is in use by another process."
    STACK_START_FAILED = "stack_start_failed", "A server of the local stack did not become ready."
    STACK_DOWNLOAD_FAILED = "stack_download_failed", "A file of the local stack could not be downloaded."
    STACK_CHECKSUM_MISMATCH = (
        "stack_checksum_mismatch",
        "A downloaded file is not the one that the lock names.",
    )
    UPLOAD_REFUSED = "upload_refused", "The object store refuses this file (too large, say)."
    REQUEST_NOT_PUBLISHED = "request_not_published", "Kafka did not acknowledge the request's record."
    UPLOAD_TOO_LARGE = (
        "upload_too_large",
        "A request's body is larger than GATEWAY_MAX_UPLOAD_BYTES allows, or holds too many files.",
    )
    UPLOAD_TIMEOUT = "upload_timeout", "A request's body did not arrive in GATEWAY_UPLOAD_TIMEOUT_S."
    REQUEST_NOT_FOUND = "request_not_found", "No answer to a request of this name is stored (yet)."
    UNAUTHENTICATED = "unauthenticated", "The gateway wants one of GATEWAY_API_KEYS."
    ORIGIN_REFUSED = "origin_refused", "A page of another site tried to write through its visitor's browser."
    RATE_LIMITED = "rate_limited", "More images a minute than GATEWAY_UPLOADS_PER_MINUTE."
    ANSWER_TIMEOUT = "answer_timeout", "No result arrived in the time allowed."


class AnalysisError(Exception):
    """Base of every error this project raises on purpose: a code from the one list, and a sentence.

    The sentence names the input (file, key, setting, topic) and the rule it breaks.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses have constructors of their own, which unpickling must not call.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[AnalysisError], args: tuple[Any, ...], state: dict[str, Any]) -> AnalysisError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error
