"""Circles, squares, triangles and stars: a small detector, trained on images that it draws itself."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL.Image import Image

from modules.canvas import Fitted, fit_within
from modules.contract import Detection

if TYPE_CHECKING:
    from modules.shapes.engine import Engine, Pending

SIDE_PX = 320
STEP_PX = 32
"""Canvas sides are multiples of the network's coarsest stride."""
WARM_CANVAS = (256, 320)
"""Height and width of a 4:3 image's canvas."""


class Shapes:
    """Answers each shape with a box and one label; of each image, the surest first."""

    name = "shapes"
    version = "1.0"
    max_batch = 32
    # Of a 4:3 image that is decoded so, the longer side keeps 320 px, all that is looked at; a square one
    # may come at 240. docs/modules.md has what that changes.
    decode_size_px = 240

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def load(self, device: str) -> None:
        """Loads the weights, if they are the pinned ones, and warms the network up."""
        from modules.shapes.engine import Engine

        self._engine = Engine(device)
        self._engine.warm_up(self.max_batch, WARM_CANVAS)

    def preprocess(self, image: Image) -> Fitted:
        """Scales the image down to fit, never up; its bytes are normalized on the device."""
        return fit_within(image, SIDE_PX, STEP_PX)

    def bucket(self, prepared: Fitted) -> tuple[int, ...]:
        """Images of one canvas share a batch."""
        return prepared.canvas.shape

    def infer(self, batch: Sequence[Fitted]) -> list[list[Detection]]:
        """Answers a batch of any mixture: images of each canvas run together."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, item in enumerate(batch):
            groups[self.bucket(item)].append(index)
        answers: list[list[Detection]] = [[] for _ in batch]
        for indexes in groups.values():
            found = self.collect(self.submit([batch[index] for index in indexes]))
            for index, detections in zip(indexes, found, strict=True):
                answers[index] = detections
        return answers

    def submit(self, batch: Sequence[Fitted]) -> "Pending":
        """Sends images of one canvas to the device."""
        return self._loaded().submit(batch)

    def collect(self, handle: "Pending") -> list[list[Detection]]:
        """Waits for a batch that was sent."""
        return self._loaded().collect(handle)

    def _loaded(self) -> "Engine":
        assert self._engine is not None, "load comes first"
        return self._engine
