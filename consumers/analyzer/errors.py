"""What can go wrong with one image, and with the store it lies in."""

from schemas.errors import AnalysisError


class ImageError(AnalysisError):
    """This image cannot be analyzed; its request is answered `failed` with this error's code."""


class StoreUnavailable(Exception):
    """The object store is away, overloaded or refuses our credentials: nobody's image is to blame."""


class Abandoned(Exception):
    """The work is no longer ours: its partition was revoked, or the worker is stopping."""
