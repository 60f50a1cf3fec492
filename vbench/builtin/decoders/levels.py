"""What likelihoods share about grey levels: their numbers, sums over pixels, and who refuses them."""

from __future__ import annotations

import torch
from torch import Tensor

from vbench.types import Incompatible, Space

__all__ = ["level_numbers", "masked_sum", "refuse_levels"]


def level_numbers(x: Tensor, levels: int, mask: Tensor | None = None) -> Tensor:
    """Numbers 0 .. levels - 1 of data in [0, 1], whole, in the dtype of ``x``; zero where nothing was observed."""
    seen = x if mask is None else torch.where(mask.bool(), x, 0)
    return (seen * (levels - 1)).round()


def masked_sum(terms: Tensor, mask: Tensor | None) -> Tensor:
    """Sum over the observed entries of a datum, ``[K, B, *X] -> [K, B]``."""
    return (terms if mask is None else torch.where(mask.bool(), terms, 0)).flatten(2).sum(2)


def refuse_levels(x: Space) -> None:
    """A density of discrete values grows without end as it narrows.

    Raises:
        Incompatible: the data are levels.
    """
    if x.support == "levels":
        raise Incompatible(f"a density of {x.levels} levels grows without end: add noise, binarization=dequantized")
