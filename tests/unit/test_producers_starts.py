"""Places to begin reading, as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from producers.errors import InvalidArgument
from producers.starts import parse_start

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", "beginning"),
        ("end", "end"),
        ("-5", -5),
        ("@1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("@1700000000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-23T11:00:00Z", datetime(2026, 11, 23, 11, tzinfo=UTC)),
    ],
)
def test_places(text: str, start: object) -> None:
    assert parse_start(text, NOW) == start


def test_a_time_without_a_zone_is_local() -> None:
    assert parse_start("2026-11-23T11:00") == datetime(2026, 11, 23, 11).astimezone()


@pytest.mark.parametrize("text", ["", "yesterday", "-", "@", "@now", "5", "99999999999d", "2026-13-01"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no place to begin"):
        parse_start(text, NOW)
