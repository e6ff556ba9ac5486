"""Image files in the object store, under keys made from their content."""

import base64
import contextlib
import hashlib
import io
import mimetypes
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from infra.s3 import S3Unavailable
from infra.settings import S3Settings
from producers.errors import BucketNotFound, InputNotFound, UploadDenied, UploadRefused
from schemas.messages import ImageReference

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")
_REFRESH_AFTER = timedelta(days=1)
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CHANGED = {"BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_MET_BY_ALL = {403, 404, 408, 429}
"""Statuses that tell nothing about one file, unlike the other 4xx: a file may be too large, say."""
_NOT_TOLD = {400, 403, 404}
"""Answers to HEAD, which have no body: 403 is also a missing key, to who may not list the bucket."""


class ImageStore:
    """Stores each content once: the key holds the content's SHA-256, so a second upload finds the first.

    Files are read in small pieces, once for the hash and then for the upload; the store checks what it
    received against the same hash, so a file that changes in between is refused rather than mislabelled.
    """

    def __init__(self, client: "S3Client", settings: S3Settings) -> None:
        self._client = client
        self._settings = settings

    def put_file(self, path: Path) -> ImageReference:
        """Uploads a file unless its content is there already.

        Raises:
            InputNotFound: the file cannot be read.
            UploadRefused: the store refuses this file.
            S3Unavailable: the store does not answer.
            BucketNotFound: the uploads bucket does not exist.
            UploadDenied: the store refuses the credentials.
        """
        try:
            # Opening a pipe waits for somebody to write into it.
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputNotFound(path, "not a regular file")
            with path.open("rb") as file:
                return self._put(file, _extension(path))
        except OSError as error:
            raise InputNotFound(path, error.strerror or str(error)) from None
        except ClientError as error:
            raise UploadRefused(path, _refusal(error)) from None

    def put_bytes(self, data: bytes) -> ImageReference:
        """Uploads an image that is in memory, unless its content is there already; raises as `put_file`."""
        try:
            return self._put(io.BytesIO(data), "")
        except ClientError as error:
            raise UploadRefused("the image", _refusal(error)) from None

    def _put(self, file: io.BufferedReader | io.BytesIO, extension: str) -> ImageReference:
        digest = hashlib.file_digest(file, "sha256")
        size = file.seek(0, io.SEEK_END)
        reference = ImageReference(self._settings.uploads_bucket, _key(digest.hexdigest(), extension))
        with _store_errors(self._settings):
            if not self._is_stored(reference, size):
                file.seek(0)
                self._client.put_object(
                    Bucket=reference.bucket,
                    Key=reference.key,
                    Body=file,
                    ContentLength=size,
                    ContentType=mimetypes.guess_type(reference.key)[0] or "application/octet-stream",
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                )
        return reference

    def _is_stored(self, reference: ImageReference, size: int) -> bool:
        try:
            found = self._client.head_object(Bucket=reference.bucket, Key=reference.key)
        except ClientError as error:
            if _status(error) in _NOT_TOLD:
                return False
            raise
        # Uploads expire: an old object could vanish before it is analyzed, so it is written anew.
        is_fresh = datetime.now(UTC) - found["LastModified"] < _REFRESH_AFTER
        return is_fresh and found["ContentLength"] == size


def _key(content_hash: str, extension: str) -> str:
    return f"sha256/{content_hash[:2]}/{content_hash}{extension}"


def _extension(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if _EXTENSION.fullmatch(suffix) else ""


@contextlib.contextmanager
def _store_errors(settings: S3Settings) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code, reason = error.response["Error"].get("Code", ""), str(error)
        if code == "NoSuchBucket":
            raise BucketNotFound(settings.uploads_bucket) from None
        if code in _DENIED or _status(error) == 403:
            raise UploadDenied(settings, reason) from None
        if 400 <= _status(error) < 500 and _status(error) not in _MET_BY_ALL:
            raise
        raise S3Unavailable(settings, reason) from None
    except BotoCoreError as error:
        raise S3Unavailable(settings, str(error)) from None


def _refusal(error: ClientError) -> str:
    if error.response["Error"].get("Code") in _CHANGED:
        return "the file changed while it was uploaded"
    return f"the object store refuses it: {error}"


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]
