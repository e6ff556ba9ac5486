# mypy: ignore-errors
from .net import Net


class Relative:
    """Imports a sibling as part of a package."""

    def __init__(self):
        self.net = Net()

    def inference_by_path(self, image_path):
        return self.net.answer()
