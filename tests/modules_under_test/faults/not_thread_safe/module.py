import time

from PIL.Image import Image

from modules.contract import Detection
from modules.dummy.module import Dummy


class NotThreadSafe(Dummy):
    """Hands the image on through the module itself."""

    current: Image

    def preprocess(self, image: Image) -> tuple[Detection, ...]:
        self.current = image
        time.sleep(0.001)
        return super().preprocess(self.current)
