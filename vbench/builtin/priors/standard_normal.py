"""Standard normal prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vbench.families import DiagonalNormal
from vbench.types import Batch, Prior, Space, Trait

__all__ = ["StandardNormalPrior"]


class _StandardNormal(DiagonalNormal):
    def log_prob(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """As of any normal, by a third of the operations."""
        if mask is not None:
            return super().log_prob(z, mask)
        squares = z.square()
        squares = squares.flatten(2).sum(2) if z.dim() > 2 else squares
        return squares.mul(-0.5).sub(0.5 * math.log(2 * math.pi) * z.shape[2:].numel())


class StandardNormalPrior(Prior):
    """Standard normal for real latents; nothing is learned.

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    offers = frozenset({Trait.FACTORIZED_PRIOR})
    needs = frozenset({Trait.latent("real")})
    loc: Tensor
    scale: Tensor

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(1, *z.shape))
        self.register_buffer("scale", torch.ones(1, *z.shape))

    def forward(self, batch: Batch | None, model: Any) -> DiagonalNormal:
        """p(z) with parameters ``[1, *Z]``."""
        return _StandardNormal(self.loc, self.scale)
