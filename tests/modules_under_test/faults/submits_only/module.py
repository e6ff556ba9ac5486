from collections.abc import Sequence
from typing import Any

from modules.dummy.module import Dummy


class SubmitsOnly(Dummy):
    """Sends batches on their way and never collects them."""

    def submit(self, batch: Sequence[Any]) -> Any:
        return batch
