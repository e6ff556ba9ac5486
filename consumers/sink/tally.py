"""What the sink has done, as a line in the log every minute in which it did something."""

import logging
import time

from consumers.sink.store import Written

logger = logging.getLogger(__name__)

EVERY_S = 60.0


class Tally:
    """Counts since the last line."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._reset()

    def add(self, written: Written) -> None:
        """Counts a batch."""
        self._batches += 1
        self._stored += written.stored
        self._duplicates += written.duplicates
        self._refused += written.refused
        if time.monotonic() - self._since_s >= EVERY_S:
            self.log()

    def log(self) -> None:
        """Writes the line, if there is anything to say, and begins anew."""
        if self._batches:
            logger.info(
                "stored %d results in %d batches (%d were there already, %d dead letters)",
                self._stored,
                self._batches,
                self._duplicates,
                self._refused,
            )
        self._since_s = time.monotonic()
        self._reset()

    def _reset(self) -> None:
        self._batches = self._stored = self._duplicates = self._refused = 0
