"""What the estimators of independent binary latents share: their needs, antithetic pairs, a gradient by logits."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from vbench import Batch, Estimate, Rng, Trait

__all__ = ["NEEDS", "Scored", "antithetic", "by_logits", "disagreement", "scored", "spread"]

NEEDS: Final = frozenset({Trait.LOGITS, Trait.DENSITY, Trait.NORMALIZED, Trait.latent("binary")})


class Scored(NamedTuple):
    """Log joint of some draws with its graph, and their log weights without one; ``[K, B]`` each, nats."""

    log_joint: Tensor
    log_w: Tensor


def scored(model: Any, batch: Batch, posterior: Any, z: Tensor) -> Scored:
    """Evaluate the model at ``z [K, B, *Z]``."""
    log_joint = model.log_joint(batch, z)
    return Scored(log_joint, log_joint.detach() - posterior.log_prob(z).detach())


def by_logits(draws: Scored, gradient: Tensor, logits: Tensor) -> Estimate:
    """The ELBO's estimate from a hand-derived ``gradient [B, *Z]`` for the posterior's ``logits [B, *Z]``.

    The direct term trains decoder and prior; its part in log q has mean zero and is left out.
    """
    through = (gradient.detach() * logits).flatten(1).sum(1)
    return Estimate(draws.log_w.mean(0), draws.log_joint.mean(0) + through)


def antithetic(logits: Tensor, rng: Rng, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Uniforms u, and the pairs b = 1[u > 1 - p] and b~ = 1[u < p] made of them, ``[pairs, B, *Z]`` each."""
    logits = logits.detach()
    u = rng.uniform(pairs, *logits.shape, dtype=logits.dtype)
    return u, (u > (-logits).sigmoid()).to(u.dtype), (u < logits.sigmoid()).to(u.dtype)


def disagreement(b: Tensor, mirrored: Tensor, logits: Tensor) -> Tensor:
    r"""DisARM's score of a pair, :math:`(-1)^{\tilde b}\, 1[b \ne \tilde b]\, \sigma(|\phi|)`, ``[pairs, B, *Z]``."""
    return (b - mirrored) * logits.detach().abs().sigmoid()


def spread(signal: Tensor, like: Tensor) -> Tensor:
    """``[K, B]`` to ``[K, B, 1, ...]``, to stand beside ``like [K, B, *Z]``."""
    return torch.reshape(signal, (*signal.shape, *(1 for _ in like.shape[2:])))
