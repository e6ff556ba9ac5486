from collections.abc import Sequence

from modules.contract import Box, Detection, Label
from modules.dummy.module import Dummy


class NanBox(Dummy):
    """Gives a box that is nowhere."""

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        return [(Detection(Box(float("nan"), 0, 1, 1), (Label("lost", 0.5),)),) for _ in batch]
