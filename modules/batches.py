"""Batches of several kinds: the items of each kind go together, each answer comes back to its place."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def answer_by_kind(
    batch: Sequence[T], kind: Callable[[T], Hashable], answer: Callable[[list[T]], Sequence[R]]
) -> list[R]:
    """Answers a mixed batch; the worker never makes one, but whoever calls `infer` by hand may.

    Args:
        kind: says which items may share a batch, as `bucket` does.
        answer: answers items of one kind, one answer each.
    """
    places: dict[Hashable, list[int]] = {}
    for place, item in enumerate(batch):
        places.setdefault(kind(item), []).append(place)
    answers: dict[int, R] = {}
    for own in places.values():
        answers.update(zip(own, answer([batch[place] for place in own]), strict=True))
    return [answers[place] for place in range(len(batch))]
