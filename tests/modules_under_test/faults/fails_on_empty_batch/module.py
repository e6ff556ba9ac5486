from collections.abc import Sequence

from modules.contract import Detection
from modules.dummy.module import Dummy


class FailsOnEmptyBatch(Dummy):
    """Looks at the first image of a batch that has none."""

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        assert batch[0] is not None
        return super().infer(batch)
