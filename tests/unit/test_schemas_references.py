import pickle
from datetime import UTC, datetime

import msgspec
import pytest

from schemas.errors import ErrorCode
from schemas.messages import ImageReference, SourcePosition
from schemas.references import ReferenceRefused, check_reference, derive_request_id, is_uri, parse_uri

SOURCE = SourcePosition("topic-id", "analysis.images", 0, 7, 0, datetime(2026, 11, 23, tzinfo=UTC))


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "cats/tom.jpg",
        "a..b/...c/d.",
        ".hidden/.../x",
        "/leading",
        "a//b",
        "folder/",
        "C:\\photos\\tom.jpg",
        "red flower+100%.jpg",
        "%2e%2e/x",
        "caf\u00e9/\U0001f600.jpg",
        "no\u00a0break\u2028",
        "x" * 1024,
        "\U0001f600" * 256,
    ],
)
def test_keys_that_real_buckets_have_are_accepted(key: str) -> None:
    check_reference(ImageReference("images", key), {"images"})


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "a/.",
        "./a",
        "a/..",
        "a\\..\\b",
        "..\\x",
        "nul\0",
        "line\nfeed",
        "del\x7f",
        "c1\x9b31m",
        "\udce9",
        "x" * 1025,
        "\U0001f600" * 257,
    ],
)
def test_bad_keys_are_refused(key: str) -> None:
    with pytest.raises(ReferenceRefused) as caught:
        check_reference(ImageReference("images", key), {"images"})
    assert caught.value.code is ErrorCode.KEY_INVALID
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("bucket", ["", "secrets", "Images", "images/../secrets", "images\0"])
def test_buckets_outside_the_list_are_refused(bucket: str) -> None:
    with pytest.raises(ReferenceRefused) as caught:
        check_reference(ImageReference(bucket, "a"), {"images"})
    assert caught.value.code is ErrorCode.BUCKET_NOT_ALLOWED


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://images/a/b.jpg", "images", "a/b.jpg"),
        ("S3://images/a%20b+c.jpg\r\n", "images", "a%20b+c.jpg"),
        ("  s3://images//a?versionId=1#x", "images", "/a?versionId=1#x"),
        ("s3://images", "images", ""),
        ("s3:///a", "", "a"),
    ],
)
def test_references_as_text(text: str, bucket: str, key: str) -> None:
    assert is_uri(text)
    assert parse_uri(text) == ImageReference(bucket, key)


def test_derived_ids_differ_in_whatever_makes_a_request_another() -> None:
    image = ImageReference("images", "a.jpg", etag="e")
    other_images = [
        ImageReference("images", "b.jpg", etag="e"),
        ImageReference("uploads", "a.jpg", etag="e"),
        ImageReference("images", "a.jpg", etag="f"),
        ImageReference("images", "a.jpg", version_id="v", etag="e"),
        ImageReference("images", "a.jpg"),
    ]
    other_sources = [
        SourcePosition(topic_id, "analysis.images", partition, offset, index, SOURCE.timestamp)
        for topic_id, partition, offset, index in [
            ("other", 0, 7, 0),
            ("topic-id", 1, 7, 0),
            ("topic-id", 0, 8, 0),
            ("topic-id", 0, 7, 1),
        ]
    ]
    ids = [derive_request_id(image, SOURCE)]
    ids += [derive_request_id(other, SOURCE) for other in other_images]
    ids += [derive_request_id(image, other) for other in other_sources]
    assert len(set(ids)) == len(ids)
    assert ids[0] == derive_request_id(image, SOURCE)


@pytest.mark.parametrize("field", ["version_id", "etag"])
@pytest.mark.parametrize("text", ["", "a\r\nb", "\0", "é", "x" * 1025])
def test_what_goes_into_a_header_or_a_query_is_printable_ascii(field: str, text: str) -> None:
    reference = msgspec.structs.replace(ImageReference("uploads", "key"), **{field: text})
    with pytest.raises(ReferenceRefused) as refusal:
        check_reference(reference, {"uploads"})
    assert refusal.value.code == ErrorCode.MESSAGE_INVALID
    assert field in refusal.value.message


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ReferenceRefused(ErrorCode.KEY_INVALID, "key 'x' is bad")))
    assert (type(error), error.code, error.message, str(error)) == (
        ReferenceRefused,
        ErrorCode.KEY_INVALID,
        "key 'x' is bad",
        "key 'x' is bad",
    )
