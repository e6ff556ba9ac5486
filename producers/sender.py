"""The threads of `analysis upload`: store each file, publish its request, and note both in the journal."""

import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial

import msgspec
import uuid_utils

from infra.settings import KafkaSettings
from producers.client import AnalysisClient
from producers.journal import Begun, Journal, Sending
from producers.reader import TopicReader
from producers.sources import ImageSource
from schemas.messages import ImageReference, RecordPosition

_POLL_S = 0.2


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one source: Kafka has its request (since now or since an earlier run), or an error."""

    source: ImageSource
    request_id: str | None = None
    image: ImageReference | None = None
    earlier: bool = False
    error: Exception | None = None


class Sender:
    """Sends sources in threads; each ends as one `Dispatch` in `dispatches`.

    A request has its journal line before it is handed over, and its second line as soon as Kafka
    acknowledged it. `request_ids` holds all that were or may have been published.
    """

    def __init__(self, client: AnalysisClient, journal: Journal, modules: Sequence[str]) -> None:
        self.dispatches: queue.SimpleQueue[Dispatch] = queue.SimpleQueue()
        self.request_ids: set[str] = set()
        self._client = client
        self._journal = journal
        self._modules = modules
        self._waiting: queue.SimpleQueue[ImageSource] = queue.SimpleQueue()
        self._stopping = threading.Event()

    def start(self, sources: Iterable[ImageSource], threads: int) -> None:
        """Begins to send."""
        for source in sources:
            self._waiting.put(source)
        for number in range(threads):
            threading.Thread(target=self._run, name=f"upload-{number}", daemon=True).start()

    def stop(self) -> None:
        """Sends nothing more; a file that is being stored is left, its request is not published."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                source = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._send(source)
            except Exception as error:  # noqa: BLE001 (the main thread reports it, or raises it)
                self.dispatches.put(Dispatch(source=source, error=error))

    def _send(self, source: ImageSource) -> None:
        fingerprint = source.fingerprint()
        before = self._journal.find(source)
        if before is not None and before.fingerprint == fingerprint:
            self._report_earlier(source, before)
            return
        image = self._client.store(source.origin)
        if before is not None and before.image == image:
            self._report_earlier(source, before)
        elif not self._stopping.is_set():
            self._publish(source, fingerprint, image)

    def _publish(self, source: ImageSource, fingerprint: str, image: ImageReference) -> None:
        request_id = str(uuid_utils.uuid7())
        self.request_ids.add(request_id)
        self._journal.sending(Sending(source.identity, fingerprint, request_id, image))
        submission = self._client.submit(
            image,
            modules=self._modules,
            attributes={"file": source.name},
            request_id=request_id,
        )
        report = partial(self._acknowledged, source, image, request_id)
        submission.acknowledged.add_done_callback(report)

    def _acknowledged(
        self, source: ImageSource, image: ImageReference, request_id: str, done: Future[RecordPosition]
    ) -> None:
        error = done.exception()
        try:
            if error is None:
                self._journal.sent(request_id)
        except OSError as unwritten:
            error = unwritten
        self.dispatches.put(
            Dispatch(
                source=source,
                request_id=request_id,
                image=image,
                error=error if isinstance(error, Exception) else None,
            )
        )

    def _report_earlier(self, source: ImageSource, before: Sending) -> None:
        self.request_ids.add(before.request_id)
        self.dispatches.put(
            Dispatch(source=source, request_id=before.request_id, image=before.image, earlier=True)
        )


def begin(journal: Journal, kafka: KafkaSettings) -> Begun:
    """Notes where the topics end in a new journal; in an old one, settles what was left in doubt."""
    if journal.begun is None:
        begun = Begun(
            requests=_ends(kafka, (kafka.images_topic,)),
            answers=_ends(kafka, (kafka.results_topic, kafka.dead_letters_topic)),
        )
        journal.begin(begun)
        return begun
    if journal.in_doubt:
        _settle(journal, kafka, journal.begun)
    return journal.begun


def _ends(kafka: KafkaSettings, topics: Sequence[str]) -> list[tuple[str, int, int]]:
    reader = TopicReader(kafka, topics)
    reader.open("end")
    reader.close()
    return [(topic, partition, offset) for (topic, partition), offset in reader.start.items()]


def _settle(journal: Journal, kafka: KafkaSettings, begun: Begun) -> None:
    """Looks on the topic for requests that were handed over but not acknowledged before the run ended."""
    missing = journal.in_doubt
    reader = TopicReader(kafka, (kafka.images_topic,))
    reader.open({(topic, partition): offset for topic, partition, offset in begun.requests})
    try:
        while missing and not reader.caught_up:
            message = reader.poll(_POLL_S)
            request_id = "" if message is None else (message.key() or b"").decode(errors="replace")
            if request_id in missing:
                missing.discard(request_id)
                journal.sent(request_id)
    finally:
        reader.close()
