"""A checkpoint's network and image processor, from its folder alone: no download, pickle or code of it."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
)
from transformers.utils import logging as library

from modules.errors import ModuleInvalid, ModuleLoadFailed
from modules.huggingface.checkpoint import Checkpoint

LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load_network(checkpoint: Checkpoint, device: torch.device) -> Any:
    """The network on the device, in float32, ready for inference.

    Raises:
        ModuleInvalid: it is no object detector, or its weights are not all there.
        ModuleLoadFailed: it needs timm, which is not installed.
    """
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = checkpoint.folder
    config = AutoConfig.from_pretrained(folder, **LOCAL)
    if type(config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        raise ModuleInvalid(
            f"module 'huggingface:{folder}': a {config.model_type!r} is no object detector of transformers"
        )
    if _backbone(config) == "timm_backbone" and find_spec("timm") is None:
        raise ModuleLoadFailed(
            f"module 'huggingface:{folder}': its backbone is timm's, installed with `uv pip install timm`"
        )
    model, report = AutoModelForObjectDetection.from_pretrained(
        folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **LOCAL
    )
    if report["missing_keys"]:
        raise ModuleInvalid(
            f"module 'huggingface:{folder}': its weights lack {_some(report['missing_keys'])}, "
            "so it was not saved as an object detector"
        )
    return model.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)


def load_processor(checkpoint: Checkpoint) -> Any:
    """The image processor: how images are resized and scaled, and how outputs are read.

    Raises:
        ModuleInvalid: it knows nothing of object detection.
    """
    processor: Any = AutoImageProcessor.from_pretrained(checkpoint.folder, **LOCAL)  # type: ignore[no-untyped-call]
    if not hasattr(processor, "post_process_object_detection"):
        raise ModuleInvalid(
            f"module 'huggingface:{checkpoint.folder}': its image processor, {type(processor).__name__}, "
            "does not read boxes out of a network's outputs"
        )
    return processor


def _backbone(config: Any) -> str | None:
    kind: str | None = getattr(getattr(config, "backbone_config", None), "model_type", None)
    return kind


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = sorted(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
