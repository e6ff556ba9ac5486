"""The client library against a real broker and a real object store."""

import asyncio
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.kafka import KafkaUnavailable, TopicNotFound, make_producer, producer_config
from infra.s3 import make_client
from infra.settings import KafkaSettings
from producers import publisher
from producers.client import AnalysisClient
from producers.errors import (
    AnswerTimeout,
    InputNotFound,
    InvalidArgument,
    RequestNotPublished,
    RequestRefused,
)
from schemas.codec import DecodeError
from schemas.dead_letters import CODE, MESSAGE, SOURCE_TOPIC
from schemas.errors import ErrorCode
from schemas.messages import ImageReference, Request, Result
from tests.images import jpeg
from tests.producer_support import (
    answering,
    eventually,
    failed,
    ok,
    own_topics,
    publish,
    records,
    requests,
)
from tests.stack import RunningStack, unique

WAIT_S = 30.0


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaSettings:
    """Topics of this test's own."""
    return own_topics(stack.kafka)


def some_request(name: str) -> Request:
    return Request(version=1, request_id=name, image=ImageReference("uploads", name))


class TestSubmit:
    def test_a_file_is_stored_and_its_request_published(self, kafka: KafkaSettings, tmp_path: Path) -> None:
        path = tmp_path / "Photo.JPG"
        path.write_bytes(jpeg())
        with AnalysisClient(kafka) as client:
            submission = client.submit(path, modules=["faces"], attributes={"camera": "north"})
            position = submission.acknowledged.result(WAIT_S)
        (request,) = requests(kafka)
        assert request.request_id == submission.request_id
        assert request.image == submission.image
        assert (request.modules, request.attributes) == (("faces",), {"camera": "north"})
        assert request.requested_at is not None
        (record,) = records(kafka, kafka.images_topic)
        assert (record.key() or b"").decode() == submission.request_id
        assert (record.partition(), record.offset()) == (position.partition, position.offset)
        stored = make_client(client.s3).get_object(Bucket=request.image.bucket, Key=request.image.key)
        assert stored["Body"].read() == jpeg()
        assert stored["ContentType"] == "image/jpeg"

    def test_the_same_content_has_one_key(self, kafka: KafkaSettings, tmp_path: Path) -> None:
        first, second = tmp_path / "a.jpg", tmp_path / "b.jpg"
        first.write_bytes(jpeg())
        second.write_bytes(jpeg())
        with AnalysisClient(kafka) as client:
            one, two = client.submit(first), client.submit(str(second))
        assert one.image == two.image
        assert one.image.key.startswith("sha256/")
        assert one.request_id != two.request_id

    def test_bytes_and_references(self, kafka: KafkaSettings) -> None:
        reference = ImageReference("images", "a b/ü.jpg", version_id="7")
        with AnalysisClient(kafka) as client:
            content = client.submit(jpeg())
            client.submit(reference, request_id="given")
            client.submit("s3://images/a%20b.jpg")
        images = {request.request_id: request.image for request in requests(kafka)}
        assert images[content.request_id].bucket == client.s3.uploads_bucket
        assert images["given"] == reference
        assert ImageReference("images", "a%20b.jpg") in images.values()

    def test_threads_share_a_client(self, kafka: KafkaSettings) -> None:
        with AnalysisClient(kafka) as client:

            def submit() -> None:
                for _ in range(25):
                    client.submit("s3://images/a.jpg")

            threads = [threading.Thread(target=submit) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
        assert len({request.request_id for request in requests(kafka)}) == 200

    @pytest.mark.parametrize("source", ["s3://", "s3://bucket", "s3://bucket/"])
    def test_half_a_reference_is_refused(self, kafka: KafkaSettings, source: str) -> None:
        with AnalysisClient(kafka) as client, pytest.raises(InvalidArgument, match="bucket and a key"):
            client.submit(source)

    def test_what_a_consumer_would_refuse_is_not_published(self, kafka: KafkaSettings) -> None:
        with AnalysisClient(kafka) as client, pytest.raises(DecodeError):
            client.submit("s3://images/a.jpg", request_id="x" * 129)
        assert requests(kafka) == []

    def test_a_missing_file_is_named(self, kafka: KafkaSettings) -> None:
        with AnalysisClient(kafka) as client, pytest.raises(InputNotFound, match=r"nowhere\.jpg"):
            client.submit(Path("nowhere.jpg"))

    def test_an_oversized_request_is_never_swallowed(self, kafka: KafkaSettings) -> None:
        client = AnalysisClient(kafka)
        submission = client.submit("s3://images/a.jpg", attributes={"long": "x" * 2_000_000})
        with pytest.raises(RequestNotPublished, match=submission.request_id):
            submission.acknowledged.result(WAIT_S)
        with pytest.raises(RequestNotPublished):
            client.flush(WAIT_S)
        client.flush(WAIT_S)
        client.close()

    def test_leaving_the_block_raises_what_was_not_published(self, kafka: KafkaSettings) -> None:
        with pytest.raises(RequestNotPublished), AnalysisClient(kafka) as client:
            client.submit("s3://images/a.jpg", attributes={"long": "x" * 2_000_000})

    def test_who_stops_waiting_for_an_acknowledgement_stops_nothing(self, kafka: KafkaSettings) -> None:
        with AnalysisClient(kafka) as client:
            submission = client.submit("s3://images/a.jpg")

            async def wait_briefly() -> None:
                await asyncio.wait_for(asyncio.wrap_future(submission.acknowledged), 0)

            with pytest.raises(TimeoutError):
                asyncio.run(wait_briefly())
            assert submission.acknowledged.result(WAIT_S).topic == kafka.images_topic
            assert client.submit("s3://images/b.jpg").acknowledged.result(WAIT_S)

    def test_an_acknowledgement_that_cannot_be_handled_ends_no_other(
        self, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object) -> None:
            raise ValueError("a bug")

        with AnalysisClient(kafka) as client:
            with monkeypatch.context() as patched:
                patched.setattr(publisher, "RecordPosition", fail)
                client.submit("s3://images/a.jpg")
                eventually(lambda: "an acknowledgement could not be handled" in caplog.messages)
            assert client.submit("s3://images/b.jpg").acknowledged.result(WAIT_S)


class TestNothingToTalkTo:
    def test_no_broker(self, kafka: KafkaSettings) -> None:
        nowhere = msgspec.structs.replace(kafka, bootstrap_servers="127.0.0.1:1")
        with AnalysisClient(nowhere) as client, pytest.raises(KafkaUnavailable):
            client.submit("s3://images/a.jpg")

    def test_no_topic(self, kafka: KafkaSettings) -> None:
        missing = msgspec.structs.replace(
            kafka, images_topic=unique("missing"), results_topic=unique("missing")
        )
        with AnalysisClient(missing) as client:
            with pytest.raises(TopicNotFound, match=missing.images_topic):
                client.submit("s3://images/a.jpg")
            with pytest.raises(TopicNotFound, match=missing.results_topic):
                client.results()


class TestResults:
    def results(self, count: int) -> list[Result]:
        return [ok(some_request(f"r{number}")) for number in range(count)]

    def test_from_the_beginning_to_the_end(self, kafka: KafkaSettings) -> None:
        publish(kafka, *self.results(20))
        with AnalysisClient(kafka).results("beginning", follow=False) as stream:
            assert {result.request_id for result in stream} == {f"r{number}" for number in range(20)}

    def test_from_now_on_whatever_iteration_waits_for(self, kafka: KafkaSettings) -> None:
        publish(kafka, *self.results(5))
        with AnalysisClient(kafka).results() as stream:
            publish(kafka, ok(some_request("new")))
            assert next(stream).request_id == "new"

    def test_from_a_time(self, kafka: KafkaSettings) -> None:
        publish(kafka, *self.results(5))
        after_ms = max(record.timestamp()[1] for record in records(kafka, kafka.results_topic)) + 1
        time.sleep(0.01)
        publish(kafka, ok(some_request("later")))
        start = datetime.fromtimestamp(after_ms / 1000, UTC)
        with AnalysisClient(kafka).results(start, follow=False) as stream:
            assert [result.request_id for result in stream] == ["later"]
        with AnalysisClient(kafka).results(datetime.now(UTC) + timedelta(days=1), follow=False) as stream:
            assert list(stream) == []

    def test_the_last_of_each_partition(self, kafka: KafkaSettings) -> None:
        publish(kafka, *self.results(40))
        with AnalysisClient(kafka).results(-1, follow=False) as stream:
            assert len(list(stream)) == 4

    def test_filters(self, kafka: KafkaSettings) -> None:
        publish(
            kafka,
            ok(some_request("cat"), label="cat", score=0.9),
            ok(some_request("dim cat"), label="cat", score=0.2),
            ok(some_request("dog"), label="dog", score=0.9),
            ok(some_request("other"), label="cat", score=0.9, module="other"),
            failed(some_request("bad")),
        )

        def ids(**filters: Any) -> set[str]:
            with AnalysisClient(kafka).results("beginning", follow=False, **filters) as stream:
                return {result.request_id for result in stream}

        assert ids(label="cat", min_score=0.5) == {"cat", "other"}
        assert ids(min_score=0.5, module="stand-in") == {"cat", "dog"}
        assert ids(status="failed") == {"bad"}
        assert ids(label="cat", module="other") == {"other"}

    def test_a_record_that_is_no_result_is_skipped_aloud(
        self, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        producer = make_producer(producer_config(kafka))
        producer.produce(kafka.results_topic, b"not json", partition=2)
        producer.produce(kafka.results_topic, None, partition=2)
        assert producer.flush(WAIT_S) == 0
        publish(kafka, ok(some_request("good")))
        caplog.set_level(logging.WARNING, logger="producers.results")
        with AnalysisClient(kafka).results("beginning", follow=False) as stream:
            assert [result.request_id for result in stream] == ["good"]
        assert any(f"{kafka.results_topic}[2] at offset 0" in line for line in caplog.messages)

    def test_aborted_results_are_never_seen(self, kafka: KafkaSettings) -> None:
        producer = make_producer({**producer_config(kafka), "transactional.id": unique("tx")})
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        producer.produce(kafka.results_topic, msgspec.json.encode(ok(some_request("aborted"))))
        producer.flush(WAIT_S)
        producer.abort_transaction(WAIT_S)
        publish(kafka, ok(some_request("good")))
        with AnalysisClient(kafka).results("beginning", follow=False) as stream:
            assert [result.request_id for result in stream] == ["good"]


class TestAnalyze:
    def test_the_answer_comes_back(self, kafka: KafkaSettings) -> None:
        with answering(kafka, ok), AnalysisClient(kafka) as client:
            result = client.analyze(jpeg(), WAIT_S, attributes={"file": "a.jpg"})
        assert result.status == "ok"
        assert result.attributes == {"file": "a.jpg"}

    def test_a_failed_result_is_an_answer(self, kafka: KafkaSettings) -> None:
        with answering(kafka, failed), AnalysisClient(kafka) as client:
            assert client.analyze("s3://images/a.jpg", WAIT_S).status == "failed"

    def test_only_the_wanted_module_counts(self, kafka: KafkaSettings) -> None:
        def answer(request: Request) -> Result:
            publish(kafka, ok(request, module="other"))
            return ok(request, module="faces")

        with answering(kafka, answer), AnalysisClient(kafka) as client:
            assert client.analyze("s3://images/a.jpg", WAIT_S, module="faces").module.name == "faces"
        (request,) = requests(kafka)
        assert request.modules == ("faces",)

    def test_nobody_answers(self, kafka: KafkaSettings) -> None:
        with AnalysisClient(kafka) as client, pytest.raises(AnswerTimeout) as raised:
            client.analyze("s3://images/a.jpg", timeout_s=1.0)
        assert raised.value.code == ErrorCode.ANSWER_TIMEOUT
        assert len(requests(kafka)) == 1

    def test_a_dead_letter_ends_the_wait(self, kafka: KafkaSettings) -> None:
        producer = make_producer(producer_config(kafka))

        def refuse(request: Request) -> None:
            headers: Any = [
                (CODE, b"bucket_not_allowed"),
                (MESSAGE, b"bucket 'x' is not in the list"),
                (SOURCE_TOPIC, kafka.images_topic.encode()),
            ]
            producer.produce(kafka.dead_letters_topic, b"{}", request.request_id, headers=headers)
            producer.flush(WAIT_S)

        expected = pytest.raises(RequestRefused, match="is not in the list")
        with answering(kafka, refuse), AnalysisClient(kafka) as client, expected as raised:
            client.analyze("s3://x/a.jpg", WAIT_S)
        assert raised.value.code == ErrorCode.BUCKET_NOT_ALLOWED

    def test_a_dead_letter_of_a_result_is_no_answer(self, kafka: KafkaSettings) -> None:
        producer = make_producer(producer_config(kafka))

        def answer(request: Request) -> Result:
            headers: Any = [(CODE, b"row_refused"), (SOURCE_TOPIC, kafka.results_topic.encode())]
            producer.produce(kafka.dead_letters_topic, b"{}", request.request_id, headers=headers)
            assert producer.flush(WAIT_S) == 0
            return ok(request)

        with answering(kafka, answer), AnalysisClient(kafka) as client:
            assert client.analyze("s3://images/a.jpg", WAIT_S).status == "ok"

    def test_a_request_that_kafka_refuses_ends_the_wait(self, kafka: KafkaSettings) -> None:
        client = AnalysisClient(kafka)
        with pytest.raises(RequestNotPublished):
            client.analyze("s3://images/a.jpg", WAIT_S, attributes={"long": "x" * 2_000_000})
        client.close()
