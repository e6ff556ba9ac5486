"""The object store through boto3: everything but the analyzer's hot path."""

from typing import TYPE_CHECKING

import boto3
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


def make_client(settings: S3Settings, connections: int = 10) -> "S3Client":
    """A thread-safe client.

    Args:
        connections: connections kept open; at least the number of threads that use the client.
    """
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=settings.secret_access_key or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=connections,
        ),
    )
