"""Where reading begins, as people write it on a command line."""

import re
from datetime import UTC, datetime, timedelta

from producers.errors import InvalidArgument
from producers.reader import Start

_AGO = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MILLISECONDS_FROM = 10**11
"""A larger number of seconds lies past the year 5000: it is meant in milliseconds."""


def parse_start(text: str, now: datetime | None = None) -> Start:
    """Reads `beginning`, `end`, `-N` (the last N of each partition), `@SECONDS`, `15m` (ago) or a time.

    A time without a zone is local.

    Raises:
        InvalidArgument: the text is none of these.
    """
    if text == "beginning" or text == "end":
        return text  # type: ignore[return-value]
    try:
        if text.startswith("-"):
            return int(text)
        if text.startswith("@"):
            number = float(text[1:])
            return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS_FROM else number, UTC)
        ago = _AGO.fullmatch(text)
        if ago:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise InvalidArgument(
            f"{text!r} is no place to begin: beginning, end, -N, @SECONDS, 15m or 2026-01-31T12:00"
        ) from None
