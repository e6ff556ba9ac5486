# mypy: ignore-errors
import sys


class Exits:
    """Ends the interpreter when it does not like an image."""

    def inference_by_path(self, image_path):
        print("I do not like this image")
        sys.exit(3)
