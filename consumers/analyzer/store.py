"""The object store on the hot path: one GET an image, with every failure named.

obstore is used rather than boto3, whose GET costs several times the CPU. Its own retries are off: how
long to wait, and whether anybody still wants the image, is decided by the fetch stage.
"""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from consumers.analyzer.errors import StoreUnavailable
from infra.images.errors import ImageError
from infra.settings import S3Settings
from schemas.errors import ErrorCode
from schemas.messages import ImageReference

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from typing_extensions import Buffer

REQUEST_TIMEOUT = timedelta(minutes=15)
"""A large object over a slow link."""
CONNECT_TIMEOUT = timedelta(seconds=5)

# The store knows us not, or no longer: an operator's mistake, which a correction ends. No image is failed
# for it.
_CREDENTIAL_CODES = frozenset(
    {
        "AuthFailure",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_BUSY_CODES = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
_REFUSED = re.compile(r"status code: 4(?!08|25|29)\d\d")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")


class OpenObject(Protocol):
    """An object whose headers have arrived and whose body has not."""

    size_bytes: int
    etag: str | None
    version_id: str | None

    def read(self) -> "Buffer":
        """The body.

        Raises:
            StoreUnavailable: it broke off.
        """
        ...


class Store(Protocol):
    """Where the images lie."""

    def open(self, image: ImageReference, key: str) -> OpenObject:
        """As `ObjectStore.open`."""
        ...


class ObjectStore:
    """Reads objects of the allowed buckets; thread-safe."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._buckets: dict[str, S3Store] = {}

    def open(self, image: ImageReference, key: str) -> OpenObject:
        """Sends the GET and returns once the headers are there.

        Args:
            key: the key to ask for; usually the reference's own.

        Raises:
            ImageError: the store answered, and has nothing for us under this reference.
            StoreUnavailable: anything else; trying again may succeed.
        """
        if _needs_boto3(key):
            from consumers.analyzer.odd_keys import open_with_boto3

            return open_with_boto3(self._settings, image, key)
        options: GetOptions = {}
        if image.version_id:
            options["version"] = image.version_id
        if image.etag:
            options["if_match"] = image.etag
        try:
            return _ObstoreObject(obstore.get(self._bucket(image.bucket), key, options=options))
        except (BaseError, FileNotFoundError) as error:
            raise explain(image.bucket, key, error) from None

    def _bucket(self, bucket: str) -> S3Store:
        if bucket not in self._buckets:
            self._buckets[bucket] = self._make(bucket)
        return self._buckets[bucket]

    def _make(self, bucket: str) -> S3Store:
        settings = self._settings
        endpoint: dict[str, Any] = {"endpoint": settings.endpoint_url} if settings.endpoint_url else {}
        return S3Store(
            bucket,
            credential_provider=_credentials(settings),
            region=settings.region,
            virtual_hosted_style_request=not settings.endpoint_url,
            client_options={
                "allow_http": settings.endpoint_url.startswith("http://"),
                "timeout": REQUEST_TIMEOUT,
                "read_timeout": timedelta(seconds=settings.read_timeout_s),
                "connect_timeout": CONNECT_TIMEOUT,
            },
            retry_config={"max_retries": 0},
            **endpoint,
        )


def _credentials(settings: S3Settings) -> Any:
    """Where the store's credentials come from: the settings, or whatever boto3 finds (profiles, roles …)."""
    if not settings.access_key_id:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    # A provider, not plain options: beside those, obstore would send an AWS_SESSION_TOKEN of the environment.
    return lambda: {
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key,
        "expires_at": None,
    }


class _ObstoreObject:
    def __init__(self, response: "GetResult") -> None:
        self._response = response
        self.size_bytes = response.meta["size"]
        self.etag = response.meta["e_tag"]
        self.version_id = response.meta["version"]

    def read(self) -> "Buffer":
        try:
            return self._response.bytes()
        except BaseError as error:
            raise StoreUnavailable(_first_line(error)) from None


def explain(bucket: str, key: str, error: Exception) -> ImageError | StoreUnavailable:
    """Who is to blame for a failed GET: the request, or nobody.

    Only an answer that carries an S3 error code is the store's own: a proxy in between, or a service
    without its backend, answers 403 and 404 too.
    """
    text = str(error)
    found = _S3_CODE.search(text)
    s3_code = found.group(1) if found else ""
    name = f"s3://{bucket}/{key}"
    if isinstance(error, UnauthenticatedError) or s3_code in _CREDENTIAL_CODES:
        return StoreUnavailable(f"the store does not accept our credentials ({s3_code or 'unauthenticated'})")
    if isinstance(error, PreconditionError):
        return ImageError(ErrorCode.OBJECT_CHANGED, f"{name} no longer has the ETag that the request names")
    if not s3_code or s3_code in _BUSY_CODES:
        return StoreUnavailable(_first_line(error))
    if isinstance(error, FileNotFoundError):
        if s3_code == "NoSuchBucket":
            return ImageError(ErrorCode.BUCKET_NOT_FOUND, f"the bucket of {name} does not exist")
        return ImageError(ErrorCode.OBJECT_NOT_FOUND, f"{name} does not exist")
    if isinstance(error, PermissionDeniedError) or _REFUSED.search(text):
        return ImageError(ErrorCode.OBJECT_ACCESS_DENIED, f"the store refuses to read {name} ({s3_code})")
    return StoreUnavailable(_first_line(error))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _needs_boto3(key: str) -> bool:
    """Whether obstore cannot name the key: it takes keys for paths without empty segments."""
    return "//" in key or key.startswith("/") or key.endswith("/")
