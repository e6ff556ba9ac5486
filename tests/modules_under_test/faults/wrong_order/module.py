from collections.abc import Sequence

from modules.contract import Detection
from modules.dummy.module import Dummy


class WrongOrder(Dummy):
    """Answers the images of a batch the other way round."""

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        return super().infer(batch)[::-1]
