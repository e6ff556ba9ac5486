from collections.abc import Sequence

from modules.contract import Box, Detection, Label
from modules.dummy.module import Dummy


class ReachesOutside(Dummy):
    """Gives boxes that are larger than the image."""

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        return [(Detection(Box(-50, 0, 9000, 10), (Label("huge", 0.5),)),) for _ in batch]
