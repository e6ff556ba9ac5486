"""`python -m modules.shapes.train`: trains the shipped weights anew, from nothing but a seed."""

from pathlib import Path
from typing import Annotated

import typer


def main(
    pool: Annotated[
        Path,
        typer.Option(help="Where the drawn training images lie (250 kB each); drawn if they are not there."),
    ],
    output: Annotated[Path, typer.Option(help="The weights file to write, again at each check.")],
    start: Annotated[
        Path | None, typer.Option(help="Weights to begin with, from an earlier run; none: random ones.")
    ] = None,
    images: Annotated[int, typer.Option(help="Images in the pool.")] = 6_000,
    steps: Annotated[int, typer.Option(help="Batches to learn from.")] = 6_000,
    coarse_steps: Annotated[
        int, typer.Option(help="How many of them, the first ones, see images of half the size.")
    ] = 2_000,
    batch: Annotated[int, typer.Option(help="Images in a batch.")] = 16,
    rate: Annotated[
        float, typer.Option(help="The highest learning rate; it rises and falls (one cycle).")
    ] = 3e-3,
    seed: Annotated[int, typer.Option(help="Of the pool, the weights at the start, and the order.")] = 1,
    check_every: Annotated[
        int, typer.Option(help="Steps between checks on images that are not learnt from.")
    ] = 500,
    threads: Annotated[int, typer.Option(help="Threads for torch, and processes that draw.")] = 2,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda:N.")] = "cpu",
) -> None:
    """Draws a pool of images, trains the detector on them, and writes its weights.

    Batches are turned, mirrored, and their colour channels exchanged at random. AdamW, one cycle of the
    learning rate, and the moving average of the weights is what is written.
    """
    from modules.shapes.training.loop import Plan, train

    train(
        Plan(
            pool=pool,
            output=output,
            start=start,
            images=images,
            steps=steps,
            coarse_steps=coarse_steps,
            batch=batch,
            rate=rate,
            seed=seed,
            check_every=check_every,
            threads=threads,
            device=device,
        )
    )


if __name__ == "__main__":
    typer.run(main)
