"""What can go wrong with one image."""

from schemas.errors import AnalysisError


class ImageError(AnalysisError):
    """This image cannot be analyzed; its request is answered `failed` with this error's code."""
