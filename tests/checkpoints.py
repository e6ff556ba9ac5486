"""Checkpoints of small detectors with random weights, as transformers saves them."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)
from transformers.utils import logging

SIZE_PX = 64
"""The height and width that the RT-DETR is given; the others' shorter side."""
LONGEST_PX = 96
LABELS = {0: "cat", 1: "dog", 2: "bird"}

_BACKBONE: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
GAIN = 1.0
_PROPORTIONAL = {"shortest_edge": SIZE_PX, "longest_edge": LONGEST_PX}


def rt_detr(folder: Path) -> Path:
    """Images of one size, scores by class (sigmoid)."""
    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(**{**_BACKBONE, "out_features": ["stage2", "stage3", "stage4"]}),
        encoder_in_channels=[16, 16, 16],
        encoder_hidden_dim=32,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        hidden_expansion=0.5,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        decoder_layers=1,
        num_queries=20,
        num_denoising=0,
        id2label=LABELS,
    )
    processor = RTDetrImageProcessor(size={"height": SIZE_PX, "width": SIZE_PX})
    return _saved(folder, RTDetrForObjectDetection, config, processor)


def detr(folder: Path) -> Path:
    """Images that keep their proportions, a mask, scores by query (softmax, the last class is none)."""
    config = DetrConfig(
        backbone_config=ResNetConfig(**{**_BACKBONE, "out_features": ["stage4"]}),
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=1,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        num_queries=20,
        id2label=LABELS,
    )
    return _saved(folder, DetrForObjectDetection, config, DetrImageProcessor(size=_PROPORTIONAL))


def yolos(folder: Path) -> Path:
    """Images that keep their proportions, in steps of 16, and no mask."""
    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[SIZE_PX, LONGEST_PX],
        num_detection_tokens=20,
        id2label=LABELS,
    )
    return _saved(
        folder,
        YolosForObjectDetection,
        config,
        YolosImageProcessor(size={**_PROPORTIONAL, "longest_edge": 640}),
    )


def _saved(folder: Path, network: Any, config: Any, processor: Any) -> Path:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = network(config)
        for weights in model.parameters():
            # Initial weights are so small that every image would get much the same answer.
            if weights.ndim > 1 and weights.numel():
                weights.normal_(0, GAIN / weights[0].numel() ** 0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
