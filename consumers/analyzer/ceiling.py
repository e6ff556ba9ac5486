"""How large a batch may be: lowered when the device runs out of memory, raised again later."""

import sys
import threading
import time
from collections.abc import Callable

FIRST_PROBATION_S = 30.0
LAST_PROBATION_S = 960.0
NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)
"""What the plain RuntimeErrors say that torch raises where its own allocator was not the one to fail."""


class BatchCeiling:
    """The largest batch that the device is trusted with.

    Memory that other programs took may come back, so the ceiling doubles after a probation without failure;
    each failure doubles the probation, so that a limit that stays is tested ever more rarely.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._current = limit
        self._probation_s = FIRST_PROBATION_S
        self._raise_at_s = 0.0

    @property
    def current(self) -> int:
        """Images a batch at most, now."""
        with self._lock:
            if self._current < self._limit and self._clock() >= self._raise_at_s:
                self._current = min(2 * self._current, self._limit)
                self._raise_at_s = self._clock() + self._probation_s
            return self._current

    def lower(self, size: int) -> None:
        """A batch of `size` images found no memory."""
        with self._lock:
            self._current = max(1, min(self._current, size // 2))
            self._raise_at_s = self._clock() + self._probation_s
            self._probation_s = min(2 * self._probation_s, LAST_PROBATION_S)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has no memory left."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)
