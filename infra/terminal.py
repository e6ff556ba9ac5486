"""What commands share that write for people."""

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 300
"""Piped output is read by programs, which want a row on one line."""


def table_console() -> "Console":
    """Stdout for tables: as wide as the terminal, or wide enough for any row where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def quiet_client() -> None:
    """A command says itself what is wrong: the Kafka client's lines about each try would hide it."""
    logging.getLogger("infra.kafka").setLevel(logging.CRITICAL)
