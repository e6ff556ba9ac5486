"""From a network's outputs to each image's candidates, the best first, on the device.

Image processors of transformers wait for the device once an image, to leave out what scores too low.
Here a batch's candidates keep one shape, so that nothing waits before they are on the host.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

Candidates = tuple[Tensor, Tensor, Tensor]
"""Scores (images, count), classes (images, count), and corners (images, count, 4) in shares of the image."""

Ranking = Callable[[Any], Candidates]
"""Takes what a detector of transformers returned."""


def by_class(outputs: Any, count: int) -> Candidates:
    """Each query may be of several classes, each with a probability of its own (RT-DETR, Deformable DETR)."""
    logits = outputs.logits.float()
    scores, pair = logits.sigmoid().flatten(1).topk(count)
    classes = logits.shape[-1]
    return scores, pair % classes, _corners(outputs, pair // classes)


def by_query(outputs: Any, count: int) -> Candidates:
    """Each query is of one class or, by the last logit, of none (DETR, YOLOS)."""
    best, classes = outputs.logits.float().softmax(-1)[..., :-1].max(-1)
    scores, query = best.topk(count)
    return scores, classes.gather(1, query), _corners(outputs, query)


def by_processor(outputs: Any, processor: Any, min_score: float) -> Candidates:
    """As the checkpoint's image processor has it; images with fewer candidates are filled up with score 0."""
    sizes = torch.ones(len(outputs.logits), 2, device=outputs.logits.device)
    answers = processor.post_process_object_detection(outputs, threshold=min_score, target_sizes=sizes)
    scores, classes, corners = (
        pad_sequence([answer[part] for answer in answers], batch_first=True)
        for part in ("scores", "labels", "boxes")
    )
    return scores.float(), classes, corners.float()


def ranking_of(processor: Any, queries: int, classes: int, min_score: float) -> Ranking:
    """The rule that the image processor follows, found by trial on made-up outputs; if none, the processor.

    Args:
        queries, classes: the sides of the network's logits.
    """
    draw = torch.Generator().manual_seed(0)
    outputs = SimpleNamespace(
        logits=torch.randn(1, queries, classes, generator=draw),
        pred_boxes=torch.rand(1, queries, 4, generator=draw),
    )
    try:
        expected = _sorted(by_processor(outputs, processor, -1.0))
    except AttributeError:  # it reads more than classes and boxes
        return partial(by_processor, processor=processor, min_score=min_score)
    count = expected[0].shape[1]
    for rule in (by_class, by_query) if count <= queries else (by_class,):
        if all(map(_close, rule(outputs, count), expected)):
            return partial(rule, count=count)
    return partial(by_processor, processor=processor, min_score=min_score)


def _corners(outputs: Any, query: Tensor) -> Tensor:
    boxes = box_convert(outputs.pred_boxes.float(), "cxcywh", "xyxy")
    corners: Tensor = boxes.gather(1, query.unsqueeze(-1).expand(-1, -1, 4))
    return corners


def _sorted(candidates: Candidates) -> Candidates:
    scores, classes, corners = candidates
    order = scores.argsort(descending=True)
    return scores.gather(1, order), classes.gather(1, order), corners[0, order[0]][None]


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.isclose(one.double(), other.double(), atol=1e-5).all())
