"""Circles, squares, triangles and stars: a small detector, trained on images that it draws itself."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from PIL.Image import Image

from modules.batches import answer_by_kind
from modules.canvas import Fitted, fit_within
from modules.contract import Detection

if TYPE_CHECKING:
    from torch import Tensor

    from modules.shapes.engine import Engine, Pending

SIDE_PX = 320
STEP_PX = 32
"""Canvas sides are multiples of the network's coarsest stride."""
WARM_CANVAS = (256, 320)
"""Height and width of a 4:3 image's canvas."""

CPU_BATCH = 16
"""A CPU gains nothing from more (5.1 ms an image at 16, 5.7 at 32), and each takes memory in every layer."""


class Shapes:
    """Answers each shape with a box and one label; of each image, the surest first."""

    name = "shapes"
    version = "1.0"
    max_batch = 64
    # A 4:3 image keeps the 320 px of its longer side that are looked at. A square one may come at 240 and
    # is scaled up again, which costs no precision: docs/modules.md has the figures.
    decode_size_px = 240

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def load(self, device: str) -> None:
        """Loads the weights, if they are the pinned ones, and warms the network up."""
        from modules.shapes.engine import Engine

        self._engine = Engine(device)
        self.asynchronous = device != "cpu"
        if device == "cpu":
            self.max_batch = CPU_BATCH
        self._engine.warm_up(self.max_batch, WARM_CANVAS)

    def preprocess(self, image: Image) -> Fitted:
        """Scales the image to fit; its bytes are normalized on the device."""
        return fit_within(image, SIDE_PX, STEP_PX, enlarge=True)

    def preprocess_tensor(self, image: "Tensor") -> Fitted:
        """The same for an image that was decoded on the device."""
        from modules.tensors import fit_tensor

        return fit_tensor(image, SIDE_PX, STEP_PX, enlarge=True)

    def bucket(self, prepared: Fitted) -> Hashable:
        """Images of one canvas share a batch, those on the device apart from those on the host."""
        return prepared.shape, prepared.canvas.device

    def infer(self, batch: Sequence[Fitted]) -> list[list[Detection]]:
        """Answers a batch, the images of each bucket together."""
        return answer_by_kind(batch, self.bucket, lambda alike: self.collect(self.submit(alike)))

    def submit(self, batch: Sequence[Fitted]) -> "Pending":
        """Sends images of one canvas to the device."""
        return self._loaded().submit(batch)

    def collect(self, handle: "Pending") -> list[list[Detection]]:
        """Waits for a batch that was sent."""
        return self._loaded().collect(handle)

    def _loaded(self) -> "Engine":
        assert self._engine is not None, "load comes first"
        return self._engine
