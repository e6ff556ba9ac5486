"""Drawing takes long: several processes share it."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")

CHUNK = 8


def side_by_side(function: Callable[[A], R], arguments: Iterable[A], processes: int) -> Iterator[R]:
    """What `function` makes of each argument, in their order; with one process, in this one."""
    if processes == 1:
        yield from map(function, arguments)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        yield from workers.imap(function, arguments, chunksize=CHUNK)
