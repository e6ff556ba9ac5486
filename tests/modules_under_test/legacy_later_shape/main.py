# mypy: ignore-errors
from PIL import Image


class LaterShape:
    """The shape that the old server's own answers have, and later modules too."""

    def inference_by_path(self, image_path):
        with Image.open(image_path) as image:
            width, height = image.size
        position = {"x": 0, "y": 0.5, "w": width, "h": height}
        labels = [{"description": "dog", "score": 0.25}, {"description": "cat", "score": 0.5, "class_idx": 3}]
        alone = {"description": "bird", "score": 1}
        return [{"position": position, "label": labels}, {"position": position, "label": alone}]
