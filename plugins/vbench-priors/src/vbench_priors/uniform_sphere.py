"""Uniform prior on a sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vbench import Batch, Draw, Prior, Rng, Space, Trait
from vbench_priors.polar_angle import log_area

__all__ = ["UniformSphere", "UniformSpherePrior"]


@dataclass(frozen=True)
class UniformSphere:
    """Every direction alike.

    Attributes:
        like: ``[1, n]``, tells dimension, precision and device.
    """

    like: Tensor

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, 1, n]``."""
        z = rng.normal(k, *self.like.shape, dtype=self.like.dtype)
        z = z / z.norm(dim=-1, keepdim=True)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, n] -> [K, B]``, nats, by area; the same everywhere."""
        return torch.full_like(z[..., 0], -log_area(z.shape[-1]))


class UniformSpherePrior(Prior):
    r"""Every direction alike; nothing is learned.

    .. math:: p(z) = \frac{\Gamma(n / 2)}{2 \pi^{n/2}}, \qquad \|z\| = 1

    Latents are vectors of length one in n dimensions, ``[n]``; the density is by the sphere's area.

    Source: Davidson, Falorsi, De Cao, Kipf & Tomczak (2018), Hyperspherical Variational Auto-Encoders,
    arXiv:1804.00891.
    """

    offers = frozenset({Trait.FACTORIZED_PRIOR})
    needs = frozenset({Trait.latent("sphere")})
    like: Tensor

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(1, *z.shape))

    def forward(self, batch: Batch | None, model: Any) -> UniformSphere:
        """p(z), shared by the batch."""
        return UniformSphere(self.like)
