"""A checkpoint folder before any framework is imported: is it one, what is it called, what is in it."""

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from modules.errors import ModuleInvalid, ModuleNotFound

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Where transformers keeps the image processor's settings: the first of these that is there."""

MOST_NAME = 80
VERSION_DIGITS = 12


class Checkpoint(msgspec.Struct, frozen=True):
    """A folder with an object detector's configuration, image processor and weights."""

    folder: Path
    name: str
    """The folder's, or the model's in the hub's own cache, in letters that a consumer group's may have."""
    decode_size_px: int | None
    """How small an image may be decoded without being scaled up afterwards; None: no smaller than it is."""

    @classmethod
    def at(cls, place: str) -> "Checkpoint":
        """Looks into a folder.

        Raises:
            ModuleNotFound: there is no such folder.
            ModuleInvalid: something is missing in it; the message says what.
        """
        folder = _existing(place)
        _read(folder, CONFIG)
        processor = next((name for name in PROCESSORS if (folder / name).is_file()), PROCESSORS[0])
        settings = _read(folder, processor)
        _require_safetensors(folder)
        return cls(folder, _name(folder), _decode_size_px(settings.get("image_processor", settings)))

    def version(self, settings: str) -> str:
        """The first digits of a checksum over what decides the answers: settings, configurations, weights."""
        total = hashlib.sha256(settings.encode())
        for file in sorted([*self.folder.glob("*config.json"), *self.folder.glob("*.safetensors")]):
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()[:VERSION_DIGITS]


def _existing(place: str) -> Path:
    if not place:
        raise ModuleNotFound(
            "module 'huggingface': name a checkpoint's folder, huggingface:/path/to/checkpoint"
        )
    # A link keeps its own name: where it leads may change with each release, the consumer group must not.
    folder = Path(place).expanduser().absolute()
    folder = folder.resolve() if ".." in folder.parts else folder
    if not folder.is_dir():
        raise ModuleNotFound(
            f"module 'huggingface:{place}': there is no folder {folder}; "
            "checkpoints are never downloaded: fetch it first, and name the folder it is in"
        )
    return folder


def _read(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if not file.is_file():
        raise ModuleInvalid(
            f"module 'huggingface:{folder}': the folder holds no {name}, so it is no checkpoint"
        )
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ModuleInvalid(f"module 'huggingface:{folder}': {name} is damaged: {error}") from None


def _require_safetensors(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    found = f"only {', '.join(others)}, and loading a pickle runs what is in it" if others else "none"
    raise ModuleInvalid(
        f"module 'huggingface:{folder}': weights are read from .safetensors files; it holds {found}"
    )


def _name(folder: Path) -> str:
    """`models--owner--model/snapshots/revision` is how the hub's own cache lays out its downloads."""
    cached = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    name = folder.parent.parent.name.removeprefix("models--").replace("--", ".") if cached else folder.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:MOST_NAME]


def _decode_size_px(processor: dict[str, Any]) -> int | None:
    """From the size that images are made: fixed, by the shortest edge, or (old files) one number for that."""
    size = processor.get("size")
    if not processor.get("do_resize", True) or size is None:
        return None
    sides = {"shortest_edge": size} if isinstance(size, int) else size
    wanted = sides.get("shortest_edge") or max((side for side in sides.values() if side), default=None)
    return int(wanted) if wanted else None
