"""What training makes small."""

from torch import Tensor
from torch.nn import functional
from torchvision.ops import complete_box_iou_loss

from modules.shapes import boxes
from modules.shapes.network import CLASSES
from modules.shapes.training.assignment import assign

BOX_WEIGHT = 5.0
"""How much boxes count against classes."""


def detection_loss(raw: Tensor, grid: Tensor, targets: Tensor, kinds: Tensor) -> Tensor:
    """Cross entropy of the classes and complete-IoU loss of the boxes, both against the cells' goals.

    Args:
        raw: the network's outputs, (images, cells, 8).
        grid: (cells, 3), see `boxes.cells`.
        targets: (images, shapes, 4).
        kinds: (images, shapes).
    """
    logits = raw[..., :CLASSES]
    predicted = boxes.decode(raw, grid)
    goals = assign(logits.detach().sigmoid(), predicted.detach(), grid, targets, kinds)
    total = goals.scores.sum().clamp(min=1)
    classes = functional.binary_cross_entropy_with_logits(logits, goals.scores, reduction="sum")
    weights = goals.scores.amax(2)
    learning = weights > 0
    each = complete_box_iou_loss(predicted[learning], goals.boxes[learning], reduction="none")
    loss: Tensor = (classes + BOX_WEIGHT * (each * weights[learning]).sum()) / total
    return loss
