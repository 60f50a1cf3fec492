"""Standard normal prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vbench.families import DiagonalNormal
from vbench.types import Batch, Prior, Space, Trait

__all__ = ["StandardNormalPrior"]


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
        return DiagonalNormal(self.loc, self.scale)
