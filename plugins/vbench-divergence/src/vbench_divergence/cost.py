"""How well a latent explains a datum: by the likelihood, or by the squared error of its mean."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from vbench import Batch

__all__ = ["Cost", "fit"]

Cost = Literal["squared", "likelihood"]


def fit(cost: Cost, model: Any, batch: Batch, z: Tensor) -> Tensor:
    """Minus the cost, ``[K, B]``: log p(x | z) in nats, or -|x - E[x | z]|^2, observed entries only."""
    likelihood = model.likelihood(batch, z)
    if cost == "likelihood":
        found: Tensor = likelihood.log_prob(batch.x, batch.mask)
        return found
    error = likelihood.mean - batch.x
    if batch.mask is not None:
        error = torch.where(batch.mask.bool(), error, 0)
    return -error.square().flatten(2).sum(2)
