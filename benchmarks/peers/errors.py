"""What goes wrong with peers."""


class PeerFailed(Exception):
    """A peer could not be made ready or started, or ended before it was told to."""
