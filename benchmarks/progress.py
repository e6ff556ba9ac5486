"""What happens now, on standard error, and tables of what came of it, on standard output."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_errors = Console(stderr=True, highlight=False)
_started = time.monotonic()


def say(text: str) -> None:
    """One line about what happens now, after minutes and seconds since the start."""
    minutes, seconds = divmod(int(time.monotonic() - _started), 60)
    _errors.print(f"{minutes:3}:{seconds:02} {text}", markup=False, soft_wrap=True)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; its first column holds names, the others numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*map(escape, row))
    # A pipe has no width; a terminal's own is kept.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
