from collections.abc import Sequence

from modules.contract import Detection
from modules.dummy.module import Dummy


class OverstatesBatch(Dummy):
    """Says that it takes 64 images and fails with more than 16."""

    max_batch = 64

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        if len(batch) > 16:
            raise MemoryError("out of memory")
        return super().infer(batch)
