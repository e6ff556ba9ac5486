"""Broken input, grown from a corpus of sound input, to everything that parses outside bytes.

Seconds in `make test`; `make fuzz MINUTES=10` goes on for so long, spread over the parsers.
"""

import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from consumers.analyzer.claims import Claim, Suspect, judge, read_claim
from infra.images.decoding import open_image
from infra.images.errors import ImageError
from schemas.codec import decode_result
from schemas.dead_letters import DeadLetterReason, first_position, replayed_for, replays_of
from schemas.errors import AnalysisError
from schemas.intake import read_record
from schemas.messages import RecordPosition
from schemas.references import parse_uri
from tests import images

RECORDS = [
    path.read_bytes() for path in sorted((Path(__file__).parents[1] / "golden" / "records").glob("*.value.*"))
]
IMAGES = [known.data for known in {**images.good_images(), **images.bad_images()}.values()]
POSITION = RecordPosition("topic-id", "analysis.images", 3, 1000, datetime(2026, 11, 23, tzinfo=UTC))
CLAIM = Claim("host-0-0.1.abcd", suspects=(Suspect(1000, 0, 2),), trial=(1000, 0), careful_until=2000)
ALLOWED = frozenset({"images", "uploads"})
MOST_PIXELS = 2_000_000

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
EXAMPLES = 200
"""Of each parser, where no time is given."""

Edit = Callable[[bytes], bytes]


def _edits() -> SearchStrategy[Edit]:
    """One way to break bytes: overwrite, insert, cut out, cut off, or repeat a part."""
    place = st.floats(0, 1, exclude_max=True)
    few = st.binary(min_size=1, max_size=8)
    length = st.integers(1, 64)

    def overwrite(at: float, new: bytes) -> Edit:
        return lambda data: _at(data, at, lambda head, tail: head + new + tail[len(new) :])

    def insert(at: float, new: bytes) -> Edit:
        return lambda data: _at(data, at, lambda head, tail: head + new + tail)

    def cut_out(at: float, size: int) -> Edit:
        return lambda data: _at(data, at, lambda head, tail: head + tail[size:])

    def cut_off(at: float) -> Edit:
        return lambda data: _at(data, at, lambda head, _: head)

    def repeat(at: float, size: int) -> Edit:
        return lambda data: _at(data, at, lambda head, tail: head + tail[:size] * 3 + tail)

    return st.one_of(
        st.builds(overwrite, place, few),
        st.builds(insert, place, few),
        st.builds(cut_out, place, length),
        st.builds(cut_off, place),
        st.builds(repeat, place, length),
    )


def _at(data: bytes, place: float, join: Callable[[bytes, bytes], bytes]) -> bytes:
    middle = int(place * len(data))
    return join(data[:middle], data[middle:])


def _broken(corpus: list[bytes]) -> SearchStrategy[bytes]:
    def apply(data: bytes, edits: list[Edit]) -> bytes:
        for edit in edits:
            data = edit(data)
        return data

    return st.builds(apply, st.sampled_from(corpus), st.lists(_edits(), max_size=4))


def _position(data: bytes) -> None:
    headers = [("replay.of", data), ("replay.index", data), ("replay.for", data)]
    found = first_position(headers, POSITION)
    assert found == POSITION or found.offset < POSITION.offset
    found.at(0)
    replayed_for(headers)


def _dead_letter(data: bytes) -> None:
    names = ("dlq.source.offset", "dlq.failed-at", "__connect.errors.offset", "kafka_dlt-original-partition")
    for name in names:
        DeadLetterReason.from_headers([(name, data)])
    assert replays_of([("replay.count", data)]) >= 0


def _claim(data: bytes) -> None:
    claim = read_claim(data.decode(errors="replace"))
    standing = judge(claim, None, 0, 1000, 100)
    assert len(standing.claim("me", 1000, progress=False, trial=None, closed=False).text()) <= 4096


def _image(data: bytes) -> None:
    opened = open_image(data, MOST_PIXELS)
    opened.reduce(100)
    opened.pixels()


_REPLAYED = b"topic-id 3 7 2026-11-23T00:00:00Z"

PARSERS: dict[str, tuple[list[bytes], Callable[[bytes], Any], type[Exception]]] = {
    "record": (RECORDS, lambda data: read_record(data, [], POSITION, ALLOWED), AnalysisError),
    "headers": (
        [b"application/cloudevents+json", b"text/plain"],
        lambda data: read_record(b"\xff", [("content-type", data)], POSITION, ALLOWED),
        AnalysisError,
    ),
    "result": (RECORDS, decode_result, AnalysisError),
    "reference": (
        [b"s3://images/a%20b.jpg", b"s3://images/a?versionId=7"],
        lambda data: parse_uri(data.decode(errors="replace")),
        AnalysisError,
    ),
    "image": (IMAGES, _image, ImageError),
    "position": ([_REPLAYED], _position, AnalysisError),
    "dead letter": ([b"17", b"2026-01-01T00:00:00Z", bytes(8)], _dead_letter, AnalysisError),
    "claim": ([CLAIM.text().encode()], _claim, AnalysisError),
}


@pytest.mark.timeout(max(120, MINUTES * 60 + 120))
@pytest.mark.parametrize("name", PARSERS)
def test_only_what_is_promised_is_raised(name: str) -> None:
    corpus, parse, promised = PARSERS[name]
    end = time.monotonic() + MINUTES * 60 / len(PARSERS)

    @settings(
        max_examples=10**7 if MINUTES else EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(_broken(corpus))
    def examine(data: bytes) -> None:
        if MINUTES and time.monotonic() > end:
            pytest.skip("the time is over")
        with contextlib.suppress(promised):
            parse(data)

    # Hypothesis takes a skip for the end of all examples.
    with contextlib.suppress(pytest.skip.Exception):
        examine()
