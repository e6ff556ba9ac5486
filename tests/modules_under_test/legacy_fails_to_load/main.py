# mypy: ignore-errors
import os


class FailsToLoad:
    """Its model file is not there."""

    path = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120

    def __init__(self):
        open(os.path.join(self.path, "missing.pth"), "rb")  # noqa: PTH118, PTH123, SIM115

    def inference_by_path(self, image_path):
        return []
