"""Why the work on an image does not end here and now."""


class StoreUnavailable(Exception):
    """The object store is away, overloaded or refuses our credentials: nobody's image is to blame."""


class Abandoned(Exception):
    """The work is no longer ours: its partition was revoked, or the worker is stopping."""
