"""Another dataset, with a part of every datum hidden."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from vbench import DataError, Rng, TensorDataset, dataset, derive, fingerprint

__all__ = ["masked"]


def masked(
    of: Annotated[str, "the dataset, with its parameters, as in a grid"] = "digits",
    hidden: Annotated[
        Literal["top", "bottom", "left", "right", "scattered"], "a side of each image, or entries by chance"
    ] = "top",
    share: Annotated[float, Gt(0), Lt(1), "of rows, of columns or of entries"] = 0.5,
    seed: Annotated[int, Ge(0), "of scattered entries"] = 0,
) -> TensorDataset:
    """A dataset whose masks leave a side of each image, or scattered entries, unobserved.

    The values that are hidden are still there, so that completions can be held against them; no part may look.

    Source: Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference in Deep Generative
    Models, arXiv:1401.4082 (completing images).

    Raises:
        DataError: a side of what is no image, or nothing is left or hidden; the dataset has masks of its own, or cannot
            be had itself.
    """
    data = dataset(of)
    if getattr(data, "masks", None):
        raise DataError(f"masked: {of} has masks of its own, which another mask would lose")
    masks = {
        split: _observed(getattr(data, split), hidden, share, derive("hidden", seed, split))
        for split in ("train", "valid", "test")
    }
    if not 0 < float(masks["train"].float().mean()) < 1:
        raise DataError(f"masked: {share} of {of} leaves all or nothing observed")
    told = f"{share:.0%} hidden, {hidden}"
    return TensorDataset(
        *(getattr(data, split) for split in masks),
        x=data.x,
        digest=fingerprint("masked", data.digest, hidden, share, seed),
        binarization=data.binarization,
        labels=getattr(data, "labels", {}),
        masks=masks,
        notes="; ".join(filter(None, [told, getattr(data, "notes", "")])),
    )


def _observed(x: Tensor, hidden: str, share: float, key: int) -> Tensor:
    """``[n, *X]``, true where it is observed."""
    if hidden == "scattered":
        return Rng(key).uniform(*x.shape) >= share
    if x.dim() != 3:
        raise DataError(f"masked: the {hidden} of data {list(x.shape[1:])}, which are no images")
    seen = torch.ones(x.shape, dtype=torch.bool)
    side = seen if hidden in ("top", "bottom") else seen.mT
    count = round(share * side.shape[1])
    side[:, slice(count) if hidden in ("top", "left") else slice(side.shape[1] - count, None)] = False
    return seen
