"""Any object detector of Hugging Face's transformers, from a folder that holds its checkpoint."""

import os
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from PIL.Image import Image

from modules.batches import answer_by_kind
from modules.contract import Detection
from modules.huggingface.checkpoint import Checkpoint
from modules.huggingface.options import Options

if TYPE_CHECKING:
    from torch import Tensor

    from modules.huggingface.detector import Detector, Pending
    from modules.huggingface.preparing import Prepared


REVISION = 1
"""Of this code: one more wherever it answers otherwise than before."""


class HuggingFace:
    """Answers with the checkpoint's own labels, the surest first.

    Each checkpoint is a module of its own, `huggingface.<folder's name>`, and so is its consumer group.
    """

    def __init__(self, folder: str) -> None:
        self._checkpoint = Checkpoint.at(folder)
        self._options = Options.read()
        self._detector: Detector | None = None
        self.name = f"huggingface.{self._checkpoint.name}"
        self.version = self._checkpoint.version(f"{REVISION} {self._options.min_score}")
        self.max_batch = self._options.max_batch
        self.decode_size_px = self._checkpoint.decode_size_px

    def load(self, device: str) -> None:
        """Loads the network from its folder and warms it up."""
        os.environ["HF_HUB_OFFLINE"] = "1"  # read while it is imported
        from modules.huggingface.detector import load_detector

        self._detector = load_detector(self._checkpoint, device, self._options)
        self.asynchronous = device != "cpu"

    def preprocess(self, image: Image) -> "Prepared":
        """Resizes as the checkpoint's image processor does; normalizing is left to the device."""
        return self._loaded().preparation.image(image)

    def preprocess_tensor(self, image: "Tensor") -> "Prepared":
        """The same for an image that was decoded on the device: bytes (3, height, width), RGB."""
        return self._loaded().preparation.tensor(image)

    def bucket(self, prepared: "Prepared") -> Hashable:
        """Canvases of one shape, and in one place."""
        return tuple(prepared.canvas.shape), prepared.canvas.device

    def submit(self, batch: Sequence["Prepared"]) -> "Pending":
        """Starts a batch of one bucket."""
        return self._loaded().submit(batch)

    def collect(self, handle: "Pending") -> list[list[Detection]]:
        """Waits for a batch that was started."""
        return self._loaded().collect(handle)

    def infer(self, batch: Sequence["Prepared"]) -> list[list[Detection]]:
        """Answers a batch, the images of each bucket together."""
        return answer_by_kind(batch, self.bucket, lambda alike: self.collect(self.submit(alike)))

    def _loaded(self) -> "Detector":
        assert self._detector is not None, "load comes first"
        return self._detector
