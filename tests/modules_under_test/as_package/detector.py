from collections.abc import Sequence

from PIL.Image import Image

from modules.contract import Detection
from modules.dummy.module import Dummy


class AsPackage(Dummy):
    """A package that takes its class from a sibling file, and builds on a shipped one."""

    name = "as-package"

    def preprocess(self, image: Image) -> tuple[Detection, ...]:
        return super().preprocess(image)

    def infer(self, batch: Sequence[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
        return super().infer(batch)
