"""The training loop."""

import hashlib
import logging
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modules.shapes import boxes
from modules.shapes.kinds import KINDS
from modules.shapes.network import OUTPUTS, PIXEL_SCALE, Detector
from modules.shapes.training.batches import Batch, batches
from modules.shapes.training.checking import mean_precision
from modules.shapes.training.ema import Average
from modules.shapes.training.loss import detection_loss
from modules.shapes.training.pool import draw_pool

logger = logging.getLogger(__name__)

RISING = 0.05
"""The share of the steps in which the learning rate rises."""
EMA_DECAY = 0.998
WEIGHT_DECAY = 0.02
LARGEST_GRADIENT = 10.0
CHECK_IMAGES = 256
CHECK_SEED = 1_000_000
"""Added to the training's seed: of the images that precision is checked on while training goes on."""
FIRST_SCORE = 0.01
"""What every cell says of every class at the start: with more, the many empty cells drown the rest."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a training; `modules.shapes.train` says what each means."""

    pool: Path
    output: Path
    start: Path | None = None
    images: int
    steps: int
    coarse_steps: int
    batch: int
    rate: float
    seed: int
    check_every: int
    threads: int
    device: str


def train(plan: Plan) -> None:
    """Trains, and writes the averaged weights at each check and at the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    pool = draw_pool(plan.pool, plan.images, plan.seed, plan.threads)
    checks = draw_pool(plan.pool, CHECK_IMAGES, plan.seed + CHECK_SEED, plan.threads)
    network = new_network()
    if plan.start is not None:
        network.load_state_dict(load_file(plan.start))
    network.to(plan.device)
    average = Average(network, EMA_DECAY)
    optimizer = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, plan.steps, pct_start=RISING)
    losses, started = [], time.monotonic()
    rng = np.random.default_rng(plan.seed)
    shrinks = [2] * plan.coarse_steps + [1] * (plan.steps - plan.coarse_steps)
    for step, batch in enumerate(batches(pool, plan.batch, shrinks, rng), start=1):
        losses.append(_learn(network, optimizer, batch, plan.device))
        schedule.step()
        average.update(network)
        if step % plan.check_every == 0 or step == plan.steps:
            mean, spent_s = float(np.mean(losses)), time.monotonic() - started
            precision = mean_precision(average.network, checks, plan.device)
            logger.info("step %d, %.0f s: loss %.3f, mAP@0.5 %.4f", step, spent_s, mean, precision)
            write(average.network, plan.output)
            losses = []
    logger.info("%s has the sha256 %s", plan.output, hashlib.sha256(plan.output.read_bytes()).hexdigest())


def new_network() -> Detector:
    """A network with random weights that finds nothing yet."""
    network = Detector().to(memory_format=torch.channels_last)
    assert network.out.bias is not None
    with torch.no_grad():
        network.out.weight.mul_(0.1)
        network.out.bias.zero_()
        network.out.bias[: len(KINDS)] = float(np.log(FIRST_SCORE / (1 - FIRST_SCORE)))
        assert network.out.bias.shape == (OUTPUTS,)
    return network


def write(network: nn.Module, file: Path) -> None:
    """Writes the weights, by way of a file beside it, so that there is never half of one."""
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    part = file.with_suffix(".part")
    save_file(state, part)
    part.replace(file)


def _learn(network: Detector, optimizer: torch.optim.Optimizer, batch: Batch, device: str) -> float:
    """One step; its loss."""
    network.train()
    pixels, targets, kinds = (part.to(device) for part in batch)
    grid = boxes.cells(*pixels.shape[2:], pixels.device)
    loss = detection_loss(network(pixels * PIXEL_SCALE), grid, targets, kinds)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    return loss.item()
