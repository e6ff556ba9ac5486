import random
from collections.abc import Sequence

from modules.contract import Box, Detection, Label
from modules.dummy.module import Dummy


class Random(Dummy):
    """Throws dice."""

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        return [(Detection(Box(0, 0, 1, 1), (Label("dice", random.random()),)),) for _ in batch]
