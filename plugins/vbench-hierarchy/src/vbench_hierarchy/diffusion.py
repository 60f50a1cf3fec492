"""What is the same in every bound of a diffusion model: both ends, and one look in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vbench import Batch, DiagonalNormal, Rng
from vbench_hierarchy.schedule import alpha_sigma, mixed

__all__ = ["ends", "misses"]


def ends(model: Any, batch: Batch, rng: Rng, k: int, clear: Tensor, noisy: Tensor) -> Tensor:
    """Mean log p(x | z_0) of k draws less KL(q(z_1 | x) || N(0, I)), ``[B]``, nats; gammas of both ends."""
    signal = model.encoder.signal(batch)
    z = mixed(signal, clear, rng.normal(k, *signal.shape, dtype=signal.dtype))
    alpha, sigma = alpha_sigma(noisy)
    last = DiagonalNormal(alpha * signal, sigma.expand_as(signal))
    rate = last.kl(DiagonalNormal(torch.zeros_like(signal), torch.ones_like(signal)))
    return model.log_likelihood(batch, z).mean(0) - rate


def misses(model: Any, batch: Batch, rng: Rng, gamma: Tensor) -> Tensor:
    """Squared error of the noise that the prior sees at ``gamma [K, B]``: ``[K, B]``."""
    signal = model.encoder.signal(batch)
    noise = rng.normal(len(gamma), *signal.shape, dtype=signal.dtype)
    seen = model.prior.noise(mixed(signal, gamma[..., None], noise), gamma)
    return (noise - seen).square().sum(-1)
