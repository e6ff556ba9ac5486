"""What is read and not stored yet."""

from datetime import UTC, datetime

from consumers.sink.batch import Batch, Record
from schemas.codec import encode
from schemas.errors import ErrorCode
from schemas.messages import RecordPosition
from tests.sink_support import make_result


def record(partition: int, offset: int, value: bytes | None) -> Record:
    position = RecordPosition("id", "results", partition, offset, datetime.now(UTC))
    return Record(position, b"key", value, ())


def test_a_batch_knows_where_each_partition_goes_on() -> None:
    batch = Batch()
    for partition, offset in ((0, 4), (1, 9), (0, 6)):
        batch.add(record(partition, offset, encode(make_result(offset))))
    assert batch.next_offsets == {0: 7, 1: 10}
    assert [entry.result.source.offset for entry in batch.entries] == [4, 9, 6]


def test_what_cannot_be_decoded_is_refused_with_its_code() -> None:
    batch = Batch()
    batch.add(record(0, 0, b"{"))
    batch.add(record(0, 1, b"\xff"))
    assert [refused.code for refused in batch.refused] == [
        ErrorCode.MESSAGE_NOT_JSON,
        ErrorCode.MESSAGE_NOT_UTF8,
    ]
    assert batch.next_offsets == {0: 2}


def test_a_tombstone_only_moves_the_offset() -> None:
    batch = Batch()
    batch.add(record(3, 5, None))
    assert (len(batch), bool(batch), batch.next_offsets) == (0, True, {3: 6})


def test_dropping_a_partition_leaves_the_others() -> None:
    batch = Batch()
    good = encode(make_result(1))
    batch.add(record(0, 1, good))
    batch.add(record(1, 1, good))
    batch.add(record(0, 2, b"{"))
    batch.drop({0})
    assert batch.next_offsets == {1: 2}
    assert (len(batch.entries), len(batch.refused), batch.size_bytes) == (1, 0, len(good))
    batch.drop({1})
    assert not batch
    assert batch.age_s == 0.0


def test_clear_forgets_everything() -> None:
    batch = Batch()
    batch.add(record(0, 1, encode(make_result(1))))
    batch.clear()
    assert (len(batch), batch.size_bytes, bool(batch)) == (0, 0, False)
