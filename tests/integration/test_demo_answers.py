"""What the demo reads back from a real PostgreSQL."""

import contextlib
from datetime import UTC, datetime

from consumers.sink.batch import Batch, Record
from consumers.sink.partitions import Partitions
from consumers.sink.store import Store, Topic
from infra.postgres import connect
from producers.demo.report import read_answers
from schemas.codec import encode
from schemas.messages import ModuleIdentity, RecordPosition
from tests.sink_support import fresh_database, make_result, make_source
from tests.stack import RunningStack


def test_two_versions_of_a_module_keep_their_detections_apart(stack: RunningStack) -> None:
    source = make_source(7)
    batch = Batch()
    for offset, version in enumerate(("1", "2")):
        result = make_result(7, module=ModuleIdentity("faces", version), source=source)
        position = RecordPosition("id", "results", 0, offset, datetime.now(UTC))
        batch.add(Record(position, None, encode(result), ()))
    with fresh_database(stack.database) as database:
        with contextlib.closing(Store(database.settings, Partitions(retention_days=7))) as store:
            topic = Topic("results", "id")
            store.offsets(topic, [0])
            store.write(topic, batch, {0: 0}, lambda refused: None)
        with contextlib.closing(connect(database.settings, "tests")) as connection:
            answers = read_answers(connection, ["request-7"])
    assert [len(answer.detections) for answer in answers] == [1, 1]
