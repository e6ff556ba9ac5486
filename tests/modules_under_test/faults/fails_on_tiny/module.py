from PIL.Image import Image

from modules.contract import Detection
from modules.dummy.module import Dummy


class FailsOnTiny(Dummy):
    """Shrinks every image to an eighth."""

    def preprocess(self, image: Image) -> tuple[Detection, ...]:
        return super().preprocess(image.resize((image.width // 8, image.height // 8)))
