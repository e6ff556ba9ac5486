"""Modules of the old server, unchanged: a class in `main.py` with `path` and `inference_by_path`."""

import hashlib
import inspect
import io
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image

from modules.contract import Detection
from modules.errors import ModuleInvalid, ModuleLoadFailed
from modules.folders import importable
from modules.legacy_answers import read_answer
from modules.requirements import explained

logger = logging.getLogger(__name__)

R = TypeVar("R")

IMAGE_NAME = "image.png"


def is_legacy(cls: type) -> bool:
    """Whether a class is a module of the old server."""
    return callable(getattr(cls, "inference_by_path", None))


class LegacyModule:
    """Runs a module of the old server behind the contract.

    The old server gave a module the path of the uploaded file. Here it is given a lossless PNG of the
    upright RGB image, alone in a folder that is deleted after the call with all that was written there.
    `max_batch` is 1, since such a module takes one image at a time: one that fails repeats no other's work.

    Args:
        cls: the module's class, not constructed yet: its constructor is what loads the model.

    Raises:
        ModuleInvalid: the constructor needs arguments.
    """

    def __init__(self, cls: type) -> None:
        file = Path(inspect.getfile(cls)).resolve()
        self._cls = cls
        self._folder = file.parent
        self._instance: Any = None
        self.name = _text(cls, "name") or _readable(self._folder.name) or cls.__name__
        self.version = _text(cls, "version") or hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        self.max_batch = getattr(cls, "max_batch", 1)
        self.timeout_s = getattr(cls, "timeout_s", 60.0)
        _check_constructor(cls, self.name)

    def load(self, device: str) -> None:
        """Constructs the module, which loads its model from below its `path`."""
        _show_device(device)
        self._point_path()
        with _restored_directory(self._folder), importable(self._folder):
            try:
                self._instance = _without_exit(self._cls)
            except Exception as error:
                what = explained(error, self._folder)
                raise ModuleLoadFailed(f"module {self.name!r}: its constructor raised {what}") from error

    def preprocess(self, image: Image) -> bytes:
        """Encodes the image here, in the image threads, so that the device's thread only writes a file."""
        png = io.BytesIO()
        image.save(png, "PNG", compress_level=1)
        return png.getvalue()

    def infer(self, batch: Sequence[bytes]) -> list[tuple[Detection, ...]]:
        """Asks the module image by image.

        Raises:
            ModuleOutputInvalid: an answer has none of the known shapes; the message names the entry.
        """
        return [self._infer_one(png) for png in batch]

    def _infer_one(self, png: bytes) -> tuple[Detection, ...]:
        with tempfile.TemporaryDirectory(prefix="analysis-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, IMAGE_NAME)
            path.write_bytes(png)
            with _restored_directory(self._folder):
                answer = _without_exit(self._instance.inference_by_path, str(path))
            return read_answer(answer, self.name)

    def _point_path(self) -> None:
        """Lets `path` be the module's own folder where the class has none, or one of another machine."""
        given = getattr(self._cls, "path", None)
        if isinstance(given, str | Path) and Path(given).is_absolute() and Path(given).is_dir():
            return
        if given is not None:
            logger.warning(
                "module %s: its path %r is no folder here; using %s", self.name, given, self._folder
            )
        self._cls.path = str(self._folder)  # type: ignore[attr-defined]


def _text(cls: type, attribute: str) -> str | None:
    value = getattr(cls, attribute, None)
    return value if isinstance(value, str) and value else None


def _readable(folder_name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder_name).strip("._-")


def _check_constructor(cls: type, name: str) -> None:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ModuleInvalid(
            f"module {name!r}: {cls.__name__}() must work without arguments: {error}"
        ) from None


def _without_exit(call: Callable[..., R], *args: Any) -> R:
    """Calls the module's code; a `sys.exit()` in it fails this call and does not end the worker."""
    try:
        return call(*args)
    except SystemExit as error:
        raise RuntimeError(f"the module called sys.exit({error.code!r})") from error


@contextmanager
def _restored_directory(fallback: Path) -> Iterator[None]:
    """Goes back to the current directory afterwards, or to `fallback` where that is gone by then."""
    try:
        before = Path.cwd()
    except FileNotFoundError:
        before = fallback
    try:
        yield
    finally:
        try:
            os.chdir(before)
        except FileNotFoundError:
            os.chdir(fallback)


def _show_device(device: str) -> None:
    """Leaves this process the one GPU it shall use, since legacy modules take the first one they see."""
    kind, _, index = device.partition(":")
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if kind == "cuda":
        number = int(index or 0)
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
