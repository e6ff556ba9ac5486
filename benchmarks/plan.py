"""What a command is to measure."""

from pathlib import Path
from typing import Final

import msgspec

MODULES: Final = {
    "dummy": "dummy",
    "shapes": "shapes",
    "simulated": str(Path(__file__).parent / "simulated"),
}
"""Benchmarked modules: their name in figures, and what `load_module` takes."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The extent of a comparison."""

    modules: tuple[str, ...] = tuple(MODULES)
    peers: tuple[str, ...] = ()
    """Whom to compare with, by name."""
    rows: tuple[str, ...] = ()
    """Modules that ours is also measured with until rows are in PostgreSQL."""
    rounds: int = 3
    seconds: float = 7.0
    """How long one run should take; the number of images follows from it."""
    images: int | None = None
    """The number of images of each run, where it is not to follow from `seconds`."""
    workers: int = 2
