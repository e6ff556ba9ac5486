"""A stack of the tests' own: other ports, a temporary folder, and nothing left behind."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from infra.local.ports import is_free
from infra.local.stack import local_stack
from infra.settings import DatabaseSettings, KafkaSettings, S3Settings, load

PORTS = 18
"""Ports that a stack takes: ten for S3, two for each of three Kafka brokers, PostgreSQL, the gateway."""

_STOP_PATIENCE_S = 60
_CONNECTION_PREFIXES = ("KAFKA_", "S3_", "DATABASE_", "LOCAL_", "TOPIC_", "GATEWAY_")


class RunningStack(msgspec.Struct, frozen=True):
    """A running stack; the environment of this process leads to it, so `infra.settings.load()` does too."""

    root: Path

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach Kafka."""
        return load(KafkaSettings)

    @property
    def s3(self) -> S3Settings:
        """How to reach the object store."""
        return load(S3Settings)

    @property
    def database(self) -> DatabaseSettings:
        """How to reach PostgreSQL."""
        return load(DatabaseSettings)


def unique(prefix: str) -> str:
    """A name that no other test uses, valid for topics, groups, buckets and databases."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def free_ports(root: Path) -> dict[str, str]:
    """The environment of a stack in `root` on free ports, below those that the system gives to clients."""
    ceiling = min(32_000, _first_client_port()) - PORTS
    floor = min(20_000, ceiling - 1000)
    for _ in range(1000):
        first = random.randrange(floor, ceiling)
        if all(is_free(port) for port in range(first, first + PORTS)):
            return {
                "LOCAL_DIR": str(root),
                "LOCAL_S3_PORT": str(first),
                "LOCAL_KAFKA_PORT": str(first + 10),
                "LOCAL_POSTGRES_PORT": str(first + 16),
                "LOCAL_GATEWAY_PORT": str(first + 17),
            }
    raise RuntimeError("no free ports for the tests' stack")


def _variables(root: Path, brokers: int) -> dict[str, str]:
    return {**free_ports(root), "LOCAL_BROKERS": str(brokers)}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that other users may pass through, as PostgreSQL's has to when root runs the tests."""
    root = Path(tempfile.mkdtemp(prefix="analysis-tests-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables, and removes those that would lead elsewhere, as long as it is entered."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(_CONNECTION_PREFIXES):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def guarded(root: Path) -> Iterator[None]:
    """Makes sure that the stack in `root` ends with this process, however this process ends.

    The guard is a process that waits for the end of its standard input, which comes even after SIGKILL.
    """
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.stack"],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    assert guard.stdin is not None
    try:
        yield
    finally:
        guard.stdin.close()
        status = guard.wait(_STOP_PATIENCE_S)
    assert status == 0, f"the stack in {root} could not be removed"


@contextlib.contextmanager
def running_stack(brokers: int = 1, disk: str = "") -> Iterator[RunningStack]:
    """Starts Kafka, S3 and PostgreSQL, with tables, topics and buckets; leaves nothing of them.

    Args:
        disk: size of a disk of its own for PostgreSQL, "1g" say, in memory; only root can have one.
    """
    with temporary_folder() as root, environment(_variables(root, brokers)), guarded(root):
        if disk:
            local_stack().folder.create()
            folder = local_stack().folder.data("postgres")
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={disk},mode=755", "tmpfs", str(folder)]
            if subprocess.run(command, check=False).returncode:
                print("skipped: fill_disk, since nothing can be mounted here", file=sys.stderr)
        local_stack().up(services_only=True)
        yield RunningStack(root)


def _first_client_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768


def _guard() -> None:
    sys.stdin.read()
    stack = local_stack()
    try:
        stack.down()
    finally:
        if stack.folder.data("postgres").is_mount():
            subprocess.run(["umount", "--lazy", str(stack.folder.data("postgres"))], check=True)
    stack.reset()
    shutil.rmtree(stack.folder.root, ignore_errors=True)


if __name__ == "__main__":
    _guard()
