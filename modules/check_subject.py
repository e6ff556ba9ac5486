"""What the conformance check holds on to: the loaded module, its sample images and its answers to them."""

import traceback
from collections.abc import Hashable, Sequence
from typing import Any

import msgspec

from modules.answers import Answer, alike, read_answers
from modules.batches import answer_by_kind
from modules.check_images import SampleImage
from modules.contract import Module, ModuleTraits, bucketing
from schemas.errors import AnalysisError

REPEAT_S = 4.0
"""How long a check that repeats the same work may take, roughly; slow modules are repeated less."""


class Fault(Exception):
    """The module breaks the contract; the text says what its author must change."""


class Doubt(Exception):
    """Something that its author should know, or that could not be checked."""


class Subject(msgspec.Struct):
    """The loaded module, what it is shown, and its answer to each image alone."""

    spec: str
    device: str
    samples: Sequence[SampleImage]
    module: Module[Any]
    limits: ModuleTraits
    repeat_s: float = REPEAT_S
    alone: list[Answer] = []
    alone_s: float = 0.0
    """Seconds per small image, alone, on average."""

    def small(self) -> list[int]:
        """Indexes of the images that may be shown many times."""
        return [index for index, sample in enumerate(self.samples) if sample.is_small]

    def prepare(self, index: int) -> Any:
        """One image through `preprocess`; a copy, since a module may change what it is given."""
        return self.module.preprocess(self.samples[index].image.copy())

    def infer(self, items: Sequence[Any]) -> list[Answer]:
        """Prepared images through `infer`, those of each kind together; the answers are checked."""
        if not items:
            return read_answers(self.module.infer(items), 0)
        return answer_by_kind(
            items, self.kind, lambda alike: read_answers(self.module.infer(alike), len(alike))
        )

    def kind(self, item: Any) -> Hashable:
        """What may share a batch with a prepared image.

        Raises:
            Fault: what the module's `bucket` returns cannot be compared.
        """
        kind = bucketing(self.module)(item)
        try:
            hash(kind)
        except TypeError:
            raise Fault(f"bucket returns a {type(kind).__name__}, which is not hashable") from None
        return kind

    def same_kind(self) -> list[int]:
        """Indexes of small images that may share a batch: as many as there are of one kind."""
        kinds: dict[Hashable, list[int]] = {}
        for index in self.small():
            kinds.setdefault(self.kind(self.prepare(index)), []).append(index)
        return max(kinds.values(), key=len)

    def expect(self, order: Sequence[int], items: Sequence[Any], how: str = "") -> None:
        """Infers prepared images in batches of the allowed size.

        Raises:
            Fault: an image of `order` was answered otherwise than alone.
        """
        size = self.limits.max_batch
        for start in range(0, len(order), size):
            answers = self.infer(items[start : start + size])
            for place, (index, answer) in enumerate(zip(order[start : start + size], answers, strict=True)):
                if not alike(answer, self.alone[index]):
                    raise Fault(self._otherwise(index, answer, place, how))

    def _otherwise(self, index: int, answer: Answer, place: int, how: str) -> str:
        twins = (other for other, known in enumerate(self.alone) if answer and alike(answer, known))
        twin = next(twins, None)
        whose = f"; it is the answer of image {self.samples[twin].name!r}" if twin is not None else ""
        name = self.samples[index].name
        return f"image {name!r}, {how}at place {place} of a batch, is answered otherwise than alone{whose}"

    def affordable(self, at_least: int, at_most: int) -> int:
        """How many small images may be gone through in the time that a repeating check has."""
        return max(at_least, min(at_most, int(self.repeat_s / max(self.alone_s, 1e-6))))


def described(error: Exception) -> str:
    """An exception of the module's code in words, with the line that raised it."""
    if isinstance(error, AnalysisError):
        return error.message
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__}: {error} (at {last.filename}:{last.lineno})"
