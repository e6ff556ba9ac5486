# mypy: ignore-errors
from Modules.places.main import Places


class Inherits(Places):
    """Takes its base from another module's folder, and so its `path` as well."""
