from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from modules.contract import Detection
from modules.dummy.module import Dummy


class Leaks(Dummy):
    """Keeps a megabyte for every image that it was given."""

    kept: ClassVar[list[NDArray[np.uint8]]] = []

    def preprocess(self, image: Image) -> tuple[Detection, ...]:
        self.kept.append(np.ones(2**20, np.uint8))
        return super().preprocess(image)
