from collections.abc import Sequence

from PIL.Image import Image

from modules.contract import Box, Detection, Label


class ChangesItsItems:
    """Normalizes the items of a batch in place: inferred again after a failure, they are others."""

    name = "changes-its-items"
    version = "1"

    def load(self, device: str) -> None:
        """There is no model."""

    def preprocess(self, image: Image) -> list[float]:
        return [image.width / 10_000]

    def infer(self, batch: Sequence[list[float]]) -> list[tuple[Detection, ...]]:
        for item in batch:
            item[0] += 0.1
        return [(Detection(Box(0, 0, 1, 1), (Label("width", item[0]),)),) for item in batch]
