"""The object store through boto3: everything but the analyzer's hot path."""

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config

from infra.settings import S3Settings
from schemas.errors import AnalysisError, ErrorCode

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


class S3Unavailable(AnalysisError):
    """The object store does not answer."""

    def __init__(self, settings: S3Settings, reason: str) -> None:
        super().__init__(
            ErrorCode.S3_UNAVAILABLE,
            f"the object store at {settings.endpoint_url or 'Amazon S3'} (S3_ENDPOINT_URL) does not answer: "
            f"{reason}; `analysis up` starts a local one",
        )


def make_client(
    settings: S3Settings, connections: int = 10, attempts: int = 5, timeout_s: float = 30.0
) -> "S3Client":
    """A thread-safe client.

    Args:
        connections: connections kept open; at least the number of threads that use the client.
        attempts: how often a request is sent at most.
        timeout_s: how long one attempt waits for the store's next bytes.
    """
    return _session(settings).client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=settings.secret_access_key or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=min(5.0, timeout_s),
            read_timeout=timeout_s,
            max_pool_connections=connections,
            # None takes the environment's proxies.
            proxies={} if _is_loopback(settings.endpoint_url) else None,
        ),
    )


def _session(settings: S3Settings) -> boto3.Session:
    # AWS_PROFILE names credentials; with a key of our own, one that does not exist is no reason to fail.
    ignored = {"profile": (None, None, None, None)} if settings.access_key_id else None
    return boto3.Session(botocore_session=botocore.session.Session(session_vars=ignored))


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
