from modules.dummy.module import Dummy


class First(Dummy):
    """One too many."""


class Second(Dummy):
    """One too many."""
