from collections.abc import Sequence
from typing import Any

from modules.contract import Detection
from modules.dummy.module import Dummy


class OneBatchAtATime(Dummy):
    """Keeps its batch in itself, where the next one takes its place."""

    def submit(self, batch: Sequence[Any]) -> None:
        self._batch = batch

    def collect(self, handle: None) -> list[tuple[Detection, ...]]:
        return list(self._batch)
