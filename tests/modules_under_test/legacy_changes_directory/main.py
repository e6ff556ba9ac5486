# mypy: ignore-errors
import os
import tempfile
from pathlib import Path


class ChangesDirectory:
    """Goes elsewhere while it loads, and into the image's own folder for every answer."""

    def __init__(self):
        os.chdir(tempfile.gettempdir())

    def inference_by_path(self, image_path):
        os.chdir(Path(image_path).parent)
        return [[(0, 0, len(list(Path.cwd().iterdir())), 0), {"files": 1}]]
