"""The few keys that obstore cannot name (`a//b`, `/a`, `a/`), read through boto3.

Imported when the first such key comes: boto3 costs every worker 30 MB.
"""

import threading
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumers.analyzer.errors import StoreUnavailable
from infra.images.errors import ImageError
from infra.s3 import make_client
from infra.settings import S3Settings
from schemas.messages import ImageReference

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_lock = threading.Lock()
_clients: dict[S3Settings, "S3Client"] = {}


class _Boto3Object:
    def __init__(self, response: Any) -> None:
        self._body = response["Body"]
        self.size_bytes: int = response["ContentLength"]
        self.etag: str | None = response.get("ETag")
        self.version_id: str | None = response.get("VersionId")

    def read(self) -> bytes:
        try:
            body: bytes = self._body.read()
        except BotoCoreError as error:
            raise StoreUnavailable(str(error)) from None
        return body


def open_with_boto3(settings: S3Settings, image: ImageReference, key: str) -> _Boto3Object:
    """As `ObjectStore.open`, with the same errors."""
    with _lock:
        if settings not in _clients:
            _clients[settings] = make_client(settings, timeout_s=settings.read_timeout_s)
    options: dict[str, Any] = {}
    if image.version_id:
        options["VersionId"] = image.version_id
    if image.etag:
        options["IfMatch"] = image.etag
    try:
        return _Boto3Object(_clients[settings].get_object(Bucket=image.bucket, Key=key, **options))
    except ClientError as error:
        raise _explain(image.bucket, key, error) from None
    except BotoCoreError as error:
        raise StoreUnavailable(str(error)) from None


def _explain(bucket: str, key: str, error: ClientError) -> ImageError | StoreUnavailable:
    # The same rules as for obstore, which are written for the status and code in the error's text.
    from obstore.exceptions import GenericError, PreconditionError

    from consumers.analyzer.store import explain

    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    text = f"status code: {status} <Code>{error.response['Error']['Code']}</Code>"
    kinds: dict[int, type[Exception]] = {404: FileNotFoundError, 412: PreconditionError}
    return explain(bucket, key, kinds.get(status, GenericError)(text))
