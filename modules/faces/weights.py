"""MTCNN from facenet-pytorch, whose wheel carries the weights: nothing is downloaded."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

ALIAS = "modules.faces.facenet"
"""Where facenet-pytorch's code is imported: under its own name it would first import download tools."""

MIN_FACE_PX = 20
"""Smallest face searched for, in pixels of the prepared image."""


def load_mtcnn(device: str) -> Any:
    """Builds the three networks of MTCNN on `device`.

    Raises:
        ModuleNotFoundError: facenet-pytorch is not installed.
    """
    import torch

    _add_alias()
    code = importlib.import_module(f"{ALIAS}.models.mtcnn")
    return code.MTCNN(min_face_size=MIN_FACE_PX, keep_all=True, device=torch.device(device)).eval()


def _add_alias() -> None:
    """Makes the installed package importable as `ALIAS`, without running its `__init__`."""
    if ALIAS in sys.modules:
        return
    found = importlib.util.find_spec("facenet_pytorch")
    if found is None:
        raise ModuleNotFoundError("facenet-pytorch is not installed", name="facenet_pytorch")
    package = ModuleType(ALIAS)
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules[ALIAS] = package
