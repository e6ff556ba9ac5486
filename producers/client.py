"""The client library: ask for the analysis of an image, read results, or do both and wait."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import uuid_utils

from infra.settings import KafkaSettings, S3Settings, load
from producers.answers import AnswerReader, Refusal
from producers.errors import AnswerTimeout, RequestRefused
from producers.publisher import Publisher
from producers.reader import Offsets, Start, TopicReader
from producers.results import ResultFilter, ResultStream
from producers.sources import read_reference
from schemas.messages import VERSION, ImageReference, RecordPosition, Request, Result, Status

if TYPE_CHECKING:
    from producers.store import ImageStore

Source: TypeAlias = ImageReference | str | Path | bytes
"""An image: a reference, `s3://bucket/key`, a file's path, or a file's content."""

_POLL_S = 0.1


class Submission(msgspec.Struct, frozen=True):
    """A request on its way: `acknowledged` ends with its position once every in-sync replica has it.

    A failure to publish is raised by `acknowledged.result()`, and by the client's next `flush()`.
    """

    request_id: str
    image: ImageReference
    acknowledged: Future[RecordPosition]


class AnalysisClient:
    """Publishes requests and reads results; may be shared by any number of threads.

    Use it in a `with` statement: leaving it waits until everything is acknowledged, and raises what was
    not. Nothing is connected before the first use.

    Args:
        kafka: where to publish; read from the environment where not given.
        s3: where files are uploaded; read from the environment where not given.
        delivery_timeout_s: how long a request may wait for Kafka's acknowledgement.
        connections: connections to the object store; at least the number of threads that submit files.
    """

    def __init__(
        self,
        kafka: KafkaSettings | None = None,
        s3: S3Settings | None = None,
        *,
        delivery_timeout_s: float = 30.0,
        connections: int = 10,
    ) -> None:
        self.kafka = kafka or load(KafkaSettings)
        self.s3 = s3 or load(S3Settings)
        self._connections = connections
        self._publisher = Publisher(self.kafka, delivery_timeout_s)
        self._store: ImageStore | None = None
        self._lock = threading.Lock()

    def submit(
        self,
        source: Source,
        *,
        modules: Sequence[str] | None = None,
        attributes: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Submission:
        """Uploads the image where it is a file or bytes, and hands the request to Kafka's producer.

        Args:
            modules: names of the modules that should answer; every running one where not given.
            attributes: strings that come back with each result.
            request_id: the request's name; a UUIDv7 where not given.

        Raises:
            KafkaUnavailable, TopicNotFound: requests cannot be published.
            S3Unavailable, BucketNotFound, UploadDenied, InputNotFound: the image cannot be uploaded.
            DecodeError: an argument makes no valid request, such as an over-long id.
        """
        self._publisher.open()
        request = Request(
            version=VERSION,
            request_id=request_id or str(uuid_utils.uuid7()),
            image=self.store(source),
            modules=tuple(modules) if modules else None,
            requested_at=datetime.now(UTC),
            attributes=dict(attributes or {}),
        )
        return Submission(request.request_id, request.image, self._publisher.publish(request))

    def store(self, source: Source) -> ImageReference:
        """Uploads an image without asking for its analysis; a reference is returned as it is.

        The object's key is made from its content, so the same content is stored once. Raises as `submit`.
        """
        if isinstance(source, ImageReference):
            return source
        if isinstance(source, bytes):
            return self._image_store().put_bytes(source)
        reference = read_reference(source) if isinstance(source, str) else None
        return reference or self._image_store().put_file(Path(source))

    def flush(self, timeout_s: float | None = None) -> None:
        """Waits until every request so far is acknowledged.

        Raises:
            TimeoutError: some are not yet, after `timeout_s`.
            RequestNotPublished, KafkaUnavailable, TopicNotFound: the first failure since the last call.
        """
        self._publisher.flush(timeout_s)

    def results(
        self,
        start: Start | Offsets = "end",
        *,
        follow: bool = True,
        module: str | None = None,
        status: Status | None = None,
        label: str | None = None,
        min_score: float = 0.0,
    ) -> ResultStream:
        """Results that fit, as they are committed.

        What is published after this call returns is not missed, however late iteration begins.

        Args:
            start: `beginning`, `end`, an offset, minus the last n records of each partition, or a time.
            follow: wait for new results for ever; else stop at the end of the topic.
            label: at least one detection has this label, with at least `min_score`.

        Raises:
            KafkaUnavailable: no broker answers.
            TopicNotFound: the results topic does not exist.
        """
        only = ResultFilter(module=module, status=status, label=label, min_score=min_score)
        reader = TopicReader(self.kafka, (self.kafka.results_topic,))
        return ResultStream(reader, only, follow=follow).open(start)

    def analyze(
        self,
        source: Source,
        timeout_s: float = 60.0,
        *,
        module: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Result:
        """Asks for one analysis and waits for its result, which may be a failed one.

        Args:
            timeout_s: how long to wait, upload included.
            module: the module that should answer; the first answer of any where not given.

        Raises:
            AnswerTimeout: no result came in time; the request stays and will still be answered.
            RequestRefused: the request became a dead letter.
            AnalysisError: as `submit`.
        """
        deadline = time.monotonic() + timeout_s
        # Reading begins before the request is published, or a quick answer would be missed.
        with AnswerReader(self.kafka).open() as answers:
            modules = None if module is None else (module,)
            submission = self.submit(source, modules=modules, attributes=attributes)
            request_id = submission.request_id
            while (left_s := deadline - time.monotonic()) > 0:
                answer = answers.poll(min(left_s, _POLL_S), {request_id})
                if isinstance(answer, Refusal):
                    raise RequestRefused(request_id, answer.code, answer.message)
                if answer is not None and module in (None, answer.module.name):
                    return answer
                if submission.acknowledged.done():
                    submission.acknowledged.result()
        raise AnswerTimeout(request_id, timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Waits for what is left, no longer than `timeout_s` or the delivery time-out, and disconnects."""
        self._publisher.close(timeout_s)

    def __enter__(self) -> "AnalysisClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            self.flush(0)

    def _image_store(self) -> "ImageStore":
        # Imported here because boto3 takes as long to load as all else: those who only read need it not.
        from infra.s3 import make_client
        from producers.store import ImageStore

        with self._lock:
            if self._store is None:
                self._store = ImageStore(make_client(self.s3, self._connections), self.s3)
            return self._store
