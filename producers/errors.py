"""What can go wrong on the producer side, beyond a server that does not answer."""

from infra.settings import S3Settings
from schemas.errors import AnalysisError, ErrorCode


class InputNotFound(AnalysisError):
    """A named file or folder cannot be read."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(ErrorCode.INPUT_NOT_FOUND, f"{path}: {reason}")
        self.path = path
        self.reason = reason


class UploadRefused(AnalysisError):
    """The object store refuses one file; others may pass."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(ErrorCode.UPLOAD_REFUSED, f"{path}: {reason}")
        self.path = path
        self.reason = reason


class InvalidArgument(AnalysisError):
    """What the caller asks for does not fit together."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.USAGE, message)


class BucketNotFound(AnalysisError):
    """The uploads bucket does not exist."""

    def __init__(self, bucket: str) -> None:
        super().__init__(
            ErrorCode.BUCKET_NOT_FOUND,
            f"the bucket {bucket!r} does not exist (S3_UPLOADS_BUCKET); `analysis up` makes a local one",
        )
        self.bucket = bucket


class UploadDenied(AnalysisError):
    """The object store refuses our credentials."""

    def __init__(self, settings: S3Settings, reason: str) -> None:
        super().__init__(
            ErrorCode.OBJECT_ACCESS_DENIED,
            f"the object store at {settings.endpoint_url or 'Amazon S3'} refuses the credentials of "
            f"S3_ACCESS_KEY_ID for the bucket {settings.uploads_bucket!r}: {reason}",
        )
        self.settings = settings
        self.reason = reason


class RequestNotPublished(AnalysisError):
    """Kafka did not acknowledge a request: it may or may not be on the topic."""

    def __init__(self, request_id: str, reason: str) -> None:
        super().__init__(ErrorCode.REQUEST_NOT_PUBLISHED, f"request {request_id}: {reason}")
        self.request_id = request_id
        self.reason = reason


class RequestRefused(AnalysisError):
    """The service put a request aside as a dead letter instead of answering it; the code says why."""

    def __init__(self, request_id: str, code: str, reason: str) -> None:
        known = next((member for member in ErrorCode if member == code), ErrorCode.MESSAGE_INVALID)
        super().__init__(known, f"request {request_id} was refused: {reason}")
        self.request_id = request_id
        self.reason = reason


class AnswerTimeout(AnalysisError):
    """No result arrived in time; the request stays on the topic and will still be answered."""

    def __init__(self, request_id: str, timeout_s: float) -> None:
        super().__init__(
            ErrorCode.ANSWER_TIMEOUT,
            f"no result for request {request_id} within {timeout_s:g} s; is an analyzer running?",
        )
        self.request_id = request_id
        self.timeout_s = timeout_s
