"""Completions as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vbench import Batch, Refittable, Rng, fixed_batches

__all__ = ["pictures"]

_HIDDEN: Final = (0.45, 0.6, 0.85)  # no grey that a pixel could have


@torch.no_grad()
def pictures(cell: Any, path: str | Path, n: int = 8, draws: int = 4, seed: int = 0) -> Mapping[str, Tensor]:
    """Draw what a finished cell makes of images with missing parts, as a file.

    A column for each of the first n test images (of training images, where each has parameters of its own): the image
    itself, what is seen of it, the mean of q, and draws of q.

    Args:
        cell: of ``vbench.trained``.
        path: of the file; what it ends in says which kind.
        n: images.
        draws: of each.
        seed: of the draws.

    Returns:
        What is drawn, ``[n, H, W]`` each.
    """
    split = "train" if isinstance(cell.model.encoder, Refittable) else "test"
    batch: Batch = next(iter(fixed_batches(cell.data, split, n, key=seed)))
    posterior = cell.model.posterior(batch)
    seen = cast(Tensor, batch.mask).bool()
    rows = {"image": batch.x, "seen": torch.where(seen, batch.x, torch.nan), "mean": posterior.mean}
    rows |= {f"draw {i + 1}": z for i, z in enumerate(posterior.draw(Rng(seed), draws).z)}
    figure = Figure(figsize=(len(batch.x), len(rows)), dpi=60)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(batch.x), squeeze=False)
    for (name, images), line in zip(rows.items(), axes, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for image, axis in zip(images, line, strict=True):
            axis.set_facecolor(_HIDDEN)
            axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, bbox_inches="tight")
    return rows
