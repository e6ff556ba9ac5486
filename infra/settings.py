"""Every setting of every component: one frozen struct each, read once at an entry point.

A setting's name is its struct's prefix and its field in capitals (`KafkaSettings.group_protocol` is
`KAFKA_GROUP_PROTOCOL`). Values come from the environment, then from the file that the local stack
writes, then from the default here.
"""

import logging
import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from schemas.errors import AnalysisError, ErrorCode

logger = logging.getLogger(__name__)

Positive = Meta(ge=1)
SECRET = {"secret": True}


class SettingError(AnalysisError):
    """A setting has a value that its rule does not allow."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.SETTING_INVALID, message)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the settings structs; `prefix` stands before each field's name in the environment."""

    prefix: ClassVar[str]


class KafkaSettings(Settings, frozen=True, kw_only=True):
    """Kafka connection and topic names."""

    prefix: ClassVar[str] = "KAFKA_"

    bootstrap_servers: Annotated[str, Meta(description="Brokers to connect to first, as `host:port,…`.")] = (
        "127.0.0.1:29092"
    )
    config_file: Annotated[
        str,
        Meta(
            description="A librdkafka properties file for TLS, SASL and anything else (`name=value` lines)."
        ),
    ] = ""
    group_protocol: Annotated[
        Literal["classic", "consumer"],
        Meta(
            description="Group protocol: `classic` (cooperative) or `consumer` (KIP-848, brokers from 4.0)."
        ),
    ] = "classic"
    session_timeout_ms: Annotated[
        int,
        Meta(
            ge=1000, description="After this silence a member's partitions move on (`classic` protocol only)."
        ),
    ] = 15_000
    images_topic: Annotated[str, Meta(description="Topic of the requests.")] = "analysis.images"
    results_topic: Annotated[str, Meta(description="Topic of the results.")] = "analysis.results"
    dead_letters_topic: Annotated[str, Meta(description="Topic of what nobody could answer.")] = (
        "analysis.dead-letters"
    )


HEALTH_ADDRESS = Meta(
    pattern=r"^(|(.*:)?[0-9]+)$",
    description="`port` or `host:port` that answers `/livez` and `/readyz`; empty for none.",
)


class TopicSettings(Settings, frozen=True, kw_only=True):
    """What `analysis topics create` gives new topics."""

    prefix: ClassVar[str] = "TOPIC_"

    partitions: Annotated[
        int, Meta(ge=1, description="Partitions of images and of results: the limit of parallel workers.")
    ] = 4
    replication_factor: Annotated[
        int, Meta(ge=1, description="Copies of each partition; 3 on a real cluster.")
    ] = 1
    min_insync_replicas: Annotated[
        int, Meta(ge=1, description="Copies that must have a record before it counts; 2 on a real cluster.")
    ] = 1
    retention_hours: Annotated[int, Meta(ge=1, description="How long requests and results are kept.")] = 168
    dead_letter_retention_hours: Annotated[int, Meta(ge=1, description="How long dead letters are kept.")] = (
        720
    )


class S3Settings(Settings, frozen=True, kw_only=True):
    """The object store: Amazon S3, MinIO, SeaweedFS, RustFS, Ceph and their like."""

    prefix: ClassVar[str] = "S3_"

    endpoint_url: Annotated[str, Meta(description="The store's address; empty for Amazon S3.")] = (
        "http://127.0.0.1:29000"
    )
    region: Annotated[str, Meta(description="The store's region.")] = "us-east-1"
    access_key_id: Annotated[str, Meta(description="Access key; empty to use the AWS credential chain.")] = ""
    secret_access_key: Annotated[str, Meta(description="Secret key of the access key.", extra=SECRET)] = ""
    uploads_bucket: Annotated[str, Meta(description="Bucket for files that are uploaded ad hoc.")] = "uploads"
    allowed_buckets: Annotated[
        tuple[str, ...], Meta(description="Buckets that requests may name, separated by commas.")
    ] = ("uploads", "images")
    read_timeout_s: Annotated[
        float, Meta(gt=0, description="How long the store may be silent in the middle of a GET.")
    ] = 10.0


class DatabaseSettings(Settings, frozen=True, kw_only=True):
    """PostgreSQL."""

    prefix: ClassVar[str] = "DATABASE_"

    url: Annotated[str, Meta(description="A libpq connection URL.", extra=SECRET)] = (
        "postgresql://app@127.0.0.1:25432/analysis"
    )


class ModuleSettings(Settings, frozen=True, kw_only=True):
    """What modules themselves read from the environment, since they import nothing of `infra`."""

    prefix: ClassVar[str] = "MODULE_"

    path: Annotated[
        str,
        Meta(description="Folders that hold a `Modules` folder, separated by `:`, for legacy imports."),
    ] = ""
    max_batch: Annotated[
        int, Meta(ge=1, description="`huggingface`: images that the network may be given at once.")
    ] = 16
    min_score: Annotated[
        float, Meta(ge=0, le=1, description="`huggingface`: detections with this score or less are left out.")
    ] = 0.5
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Meta(description="`huggingface`: precision; `auto` is half on CUDA, `float32` on the CPU."),
    ] = "auto"
    compile: Annotated[
        Literal["off", "on"],
        Meta(description="`huggingface`: `torch.compile` the network; loading takes minutes longer."),
    ] = "off"


class AnalyzerSettings(Settings, frozen=True, kw_only=True):
    """The analyzer: its module, its workers and their limits."""

    prefix: ClassVar[str] = "ANALYZER_"

    module: Annotated[
        str, Meta(description="The module to run: a shipped name, `./folder`, or `package.path:Class`.")
    ] = "faces"
    workers: Annotated[
        str,
        Meta(pattern=r"^(auto|[1-9][0-9]*)$", description="Worker processes here; `auto` takes the devices."),
    ] = "auto"
    gpus: Annotated[
        str,
        Meta(pattern=r"^(auto|[0-9]+)$", description="GPUs to use here; worker i takes GPU i modulo this."),
    ] = "auto"
    instance_id: Annotated[
        str, Meta(description="Names this supervisor in transactional ids; unique among machines.")
    ] = socket.gethostname()
    max_batch: Annotated[
        int, Meta(ge=0, description="Images a batch at most; 0 takes the module's own limit.")
    ] = 0
    max_wait_ms: Annotated[
        float, Meta(ge=0, description="How long an unfilled batch waits for more images.")
    ] = 5.0
    image_threads: Annotated[
        int, Meta(ge=0, description="Threads that decode and preprocess in a worker; 0 shares the cores out.")
    ] = 0
    max_fetches: Annotated[
        int, Meta(ge=1, description="GETs that a worker keeps in flight at most; it needs rate x latency.")
    ] = 64
    window_records: Annotated[int, Meta(ge=1, description="Records in flight in a worker at most.")] = 1000
    window_bytes: Annotated[
        int, Meta(ge=1, description="Bytes of records in flight in a worker at most.")
    ] = 64 * 2**20
    image_memory_bytes: Annotated[
        int,
        Meta(
            ge=1, description="Bytes of decoded images held by a worker at most (one larger image may pass)."
        ),
    ] = 512 * 2**20
    max_image_bytes: Annotated[int, Meta(ge=1, description="Largest object that is fetched.")] = 64 * 2**20
    max_image_pixels: Annotated[int, Meta(ge=1, description="Largest image that is decoded.")] = 100_000_000
    jpeg_decoder: Annotated[
        Literal["pillow", "torchvision"],
        Meta(description="`torchvision` decodes JPEG files on the device, for modules that take tensors."),
    ] = "pillow"
    transaction_interval_ms: Annotated[
        float,
        Meta(
            ge=1,
            description="Time between transactions under load; up to four times as long with many in flight.",
        ),
    ] = 100.0
    transaction_timeout_ms: Annotated[
        int, Meta(ge=1000, description="After this the broker aborts the transaction of a worker that died.")
    ] = 30_000
    max_failures_in_row: Annotated[
        int,
        Meta(ge=0, description="More images in a row at which the module fails stop the analyzer; 0: never."),
    ] = 100
    max_failure_share: Annotated[
        float,
        Meta(ge=0, le=1, description="So does a larger share of its last 500 answers; 1: never."),
    ] = 0.5
    max_crashes: Annotated[
        int, Meta(ge=0, description="So do more crashes and hangs of workers within ten minutes; 0: never.")
    ] = 20
    drain_timeout_s: Annotated[
        float, Meta(ge=0, description="How long a stopping worker finishes what it began.")
    ] = 20.0
    health_address: Annotated[str, HEALTH_ADDRESS] = ""
    account_dir: Annotated[
        str, Meta(description="Folder where each worker leaves an account of its stages at its end.")
    ] = ""


class SinkSettings(Settings, frozen=True, kw_only=True):
    """The sink: how rows are batched, and how long they stay."""

    prefix: ClassVar[str] = "SINK_"

    group_id: Annotated[str, Meta(description="The sink's consumer group.")] = "sink"
    batch_rows: Annotated[int, Meta(ge=1, description="Results written in one transaction at most.")] = 2000
    batch_bytes: Annotated[
        int, Meta(ge=1, description="Bytes of results at which a batch is written, full or not.")
    ] = 16 * 2**20
    batch_wait_ms: Annotated[float, Meta(ge=1, description="How long a batch waits for more results.")] = (
        100.0
    )
    health_address: Annotated[str, HEALTH_ADDRESS] = ""
    retention_days: Annotated[
        int, Meta(ge=1, description="Days that rows are kept; older partitions are dropped.")
    ] = 7


class GatewaySettings(Settings, frozen=True, kw_only=True):
    """The gateway: REST and the page."""

    prefix: ClassVar[str] = "GATEWAY_"

    address: Annotated[
        str,
        Meta(pattern=r"^.*:[0-9]+$", description="`host:port` where it listens; `:8000` is every interface."),
    ] = "127.0.0.1:8000"
    api_keys: Annotated[
        tuple[str, ...],
        Meta(description="Keys that programs and people must show, separated by commas.", extra=SECRET),
    ] = ()
    allow_anonymous: Annotated[
        bool, Meta(description="Whether it may listen beyond this machine without any key.")
    ] = False
    max_upload_bytes: Annotated[
        int, Meta(ge=1, description="Largest file; one beyond ANALYZER_MAX_IMAGE_BYTES is not analyzed.")
    ] = 32 * 1024 * 1024
    max_request_bytes: Annotated[
        int, Meta(ge=1, description="Largest body of a request, all its files together.")
    ] = 128 * 1024 * 1024
    max_upload_files: Annotated[int, Meta(ge=1, description="Most files of one request.")] = 50
    upload_timeout_s: Annotated[
        float, Meta(gt=0, description="How long a request's body may take to arrive.")
    ] = 120.0
    max_wait_s: Annotated[
        float, Meta(ge=0, description="Longest wait for results that a request may ask for.")
    ] = 60.0
    old_wait_s: Annotated[
        float, Meta(ge=0, description="How long the old server's API waits for a result.")
    ] = 30.0
    database_connections: Annotated[int, Meta(ge=1, description="Connections to PostgreSQL.")] = 8
    uploads_per_minute: Annotated[
        int, Meta(ge=0, description="Images that one key or address may ask for in a minute; 0 for any.")
    ] = 0


class LogSettings(Settings, frozen=True, kw_only=True):
    """Log lines, on standard error."""

    prefix: ClassVar[str] = "LOG_"

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="The least severe lines that are written."),
    ] = "INFO"
    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="`text` for people, `json` for machines; `auto` is text on a terminal."),
    ] = "auto"


class LocalSettings(Settings, frozen=True, kw_only=True):
    """The local stack: where its data lies, and its ports on 127.0.0.1."""

    prefix: ClassVar[str] = "LOCAL_"

    dir: Annotated[
        str, Meta(description="Folder of data, logs and credentials; empty for `.local` here.")
    ] = ""
    kafka_port: Annotated[
        int, Meta(ge=1, le=65530, description="Kafka; the next is its controller's, then further brokers'.")
    ] = 29092
    brokers: Annotated[
        int, Meta(ge=1, le=3, description="Kafka brokers; `analysis reset` comes before a change.")
    ] = 1
    kafka_properties: Annotated[
        str, Meta(description="File of further broker properties, `name=value` lines; they override ours.")
    ] = ""
    s3_port: Annotated[
        int, Meta(ge=1, le=65526, description="S3; the nine ports after it are the server's own.")
    ] = 29000
    postgres_port: Annotated[int, Meta(ge=1, le=65535, description="PostgreSQL.")] = 25432
    gateway_port: Annotated[int, Meta(ge=1, le=65535, description="The gateway: REST and the page.")] = 8000


ALL_SETTINGS: tuple[type[Settings], ...] = (
    KafkaSettings,
    TopicSettings,
    S3Settings,
    DatabaseSettings,
    ModuleSettings,
    AnalyzerSettings,
    SinkSettings,
    GatewaySettings,
    LogSettings,
    LocalSettings,
)

OLD_NAMES = {"TOTAL_NUMBER_OF_MODULES": "ANALYZER_WORKERS", "TOTAL_GPU_NUMBER": "ANALYZER_GPUS"}
"""Names of the Django server that this service replaces, and what they are called now."""

STACK_FILE = "stack.env"
"""File in the local stack's folder that says how to reach it (`NAME=value` lines, mode 0600)."""

S = TypeVar("S", bound=Settings)


def project_dir() -> Path:
    """The checkout, where there is one; otherwise the current folder."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def local_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The local stack's folder, made absolute."""
    named = (os.environ if environ is None else environ).get("LOCAL_DIR", "")
    return Path(named).expanduser().resolve() if named else (project_dir() / ".local").resolve()


def read_stack_file(folder: Path) -> dict[str, str]:
    """The `NAME=value` pairs that a local stack in `folder` has written; none where it never ran.

    None either where the stack is another user's: whoever has the addresses in the environment needs no file.
    """
    file = folder / STACK_FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        _warn_unreadable(file, error.strerror)
        return {}
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


@cache
def _warn_unreadable(file: Path, reason: str) -> None:
    logger.warning("cannot read the local stack's settings in %s: %s", file, reason)


def variable(cls: type[Settings], field: str) -> str:
    """The environment variable of a field."""
    return cls.prefix + field.upper()


def load(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Reads the settings of one component.

    Raises:
        SettingError: a value breaks its rule; the message names the variable.
    """
    given = os.environ if environ is None else environ
    values = {field: raw for field, (raw, _) in _collect(cls, given).items()}
    return _convert(cls, values)


def origins(cls: type[Settings], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where each field's value comes from: `environment`, `local stack` or `default`."""
    collected = _collect(cls, os.environ if environ is None else environ)
    return {
        field: collected[field][1] if field in collected else "default" for field in cls.__struct_fields__
    }


def is_secret(cls: type[Settings], field: str) -> bool:
    """Whether a field must never be shown."""
    return bool((meta(cls, field).extra or {}).get("secret"))


def meta(cls: type[Settings], field: str) -> Meta:
    """A field's description and rule."""
    hint = get_type_hints(cls, include_extras=True)[field]
    return next(extra for extra in get_args(hint)[1:] if isinstance(extra, Meta))


def _collect(cls: type[Settings], environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    stack = read_stack_file(local_dir(environ))
    renamed = {new: old for old, new in OLD_NAMES.items() if old in environ}
    found = {}
    for field in cls.__struct_fields__:
        name = variable(cls, field)
        if name in environ:
            found[field] = (environ[name], "environment")
        elif name in renamed:
            logger.warning("%s is an old name; set %s instead", renamed[name], name)
            found[field] = (environ[renamed[name]], "environment")
        elif name in stack:
            found[field] = (stack[name], "local stack")
    return found


def _convert(cls: type[S], raw: Mapping[str, str]) -> S:
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for field, text in raw.items():
        is_list = get_origin(hints[field]) is tuple
        values[field] = tuple(part.strip() for part in text.split(",") if part.strip()) if is_list else text
        try:
            msgspec.convert({field: values[field]}, cls, strict=False)
        except msgspec.ValidationError as error:
            rule = str(error).partition(" - at")[0]
            shown = "" if is_secret(cls, field) else f" (its value is {text!r})"
            raise SettingError(f"{variable(cls, field)}: {rule}{shown}") from None
    return msgspec.convert(values, cls, strict=False)
