"""Stops a worker whose module fails at image after image: a bad deploy must not answer a whole topic."""

from collections import deque
from collections.abc import Iterable

from consumers.analyzer.window import Record
from schemas.errors import AnalysisError, ErrorCode

LOOKED_AT = 500
"""Answers that the share is taken of."""
LEAST = 100
"""Fewer say nothing about a share."""

COUNTED = frozenset(
    {
        ErrorCode.MODULE_ERROR,
        ErrorCode.MODULE_OUTPUT_INVALID,
        ErrorCode.MODULE_CRASHED,
        ErrorCode.MODULE_TIMEOUT,
        ErrorCode.RESULT_TOO_LARGE,
        ErrorCode.INTERNAL_ERROR,
    }
)
"""What a module or this service is to blame for; a missing or broken image is its publisher's affair."""


class TooManyFailures(AnalysisError):
    """The module fails so often that the images cannot be the cause."""


class Brake:
    """Looks at every answer before it is published.

    Args:
        most_in_row: failures in a row that are still published; 0 for any number.
        most_share: of the last `LOOKED_AT` answers; 1 for any share.
    """

    def __init__(self, most_in_row: int, most_share: float) -> None:
        self._most_in_row = most_in_row
        self._most_share = most_share
        self._in_row = 0
        self._recent: deque[bool] = deque(maxlen=LOOKED_AT)
        self._failed = 0

    def check(self, records: Iterable[Record]) -> None:
        """Counts the answers of records that are to be published.

        Raises:
            TooManyFailures: these answers must not go out.
        """
        for record in records:
            if record.counted:  # its transaction failed, which says nothing about the module
                continue
            record.counted = True
            for task in record.tasks:
                assert task.answer is not None
                failure = task.answer.error
                self._count(failure is not None and failure.code in COUNTED)
                if failure is not None:
                    self._judge(f"the last one: {failure.code}: {failure.message}")

    def _count(self, failed: bool) -> None:
        self._in_row = self._in_row + 1 if failed else 0
        if len(self._recent) == LOOKED_AT:
            self._failed -= self._recent[0]
        self._recent.append(failed)
        self._failed += failed

    def _judge(self, last: str) -> None:
        if 0 < self._most_in_row < self._in_row:
            raise TooManyFailures(
                ErrorCode.TOO_MANY_FAILURES,
                f"{self._in_row} answers in a row failed by the module's fault "
                f"(ANALYZER_MAX_FAILURES_IN_ROW={self._most_in_row}); {last}",
            )
        share = self._failed / len(self._recent)
        if len(self._recent) >= LEAST and share > self._most_share:
            raise TooManyFailures(
                ErrorCode.TOO_MANY_FAILURES,
                f"{share:.0%} of the last {len(self._recent)} answers failed by the module's fault "
                f"(ANALYZER_MAX_FAILURE_SHARE={self._most_share:g}); {last}",
            )
