"""Draws of the prior, one set for each datum."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vbench import Rng

__all__ = ["prior_draws"]


def prior_draws(model: Any, rng: Rng, k: int, size: int) -> Tensor:
    """``[K, B, *Z]``, independent for each datum; differentiable in the prior's parameters where its draws are."""
    prior = model.prior_density(None)
    z: Tensor = prior.draw(rng, k).z
    if z.shape[1] == size:
        return z
    # one density for all data gives one column
    more: Tensor = prior.draw(rng, k * size).z
    return more.reshape(k, size, *more.shape[2:])
