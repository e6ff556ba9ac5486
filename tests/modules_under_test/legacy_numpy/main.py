# mypy: ignore-errors
import numpy as np
from PIL import Image


class NumpyNumbers:
    """NumPy scalars, an array as the position, and a score that is an array of one element."""

    def inference_by_path(self, image_path):
        pixels = np.asarray(Image.open(image_path))
        height, width = pixels.shape[:2]
        scores = {"float32": np.float32(1.00000012), "array": np.array([0.5]), np.str_("int"): np.int64(0)}
        return [(np.array([0, 0, width, height]), scores), ((np.int32(1), np.float64(2.5), 3, 4), {})]
