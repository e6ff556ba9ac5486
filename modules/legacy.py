"""Modules of the old server, unchanged: a class in `main.py` with `path` and `inference_by_path`."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL.Image import Image

from modules.contract import Detection
from modules.folders import import_folder


def is_legacy(cls: type) -> bool:
    """Whether a class is a module of the old server."""
    return callable(getattr(cls, "inference_by_path", None))


def import_main(folder: Path) -> ModuleType:
    """Imports the folder's `main.py`."""
    return import_folder(folder, "main.py")


class LegacyModule:
    """Runs a module of the old server behind the contract."""

    def __init__(self, cls: type) -> None:
        self.name = cls.__name__
        self.version = "0"

    def load(self, device: str) -> None:
        raise NotImplementedError

    def preprocess(self, image: Image) -> Any:
        raise NotImplementedError

    def infer(self, batch: Sequence[Any]) -> list[tuple[Detection, ...]]:
        raise NotImplementedError
