"""Local DisARM: antithetic pairs for the importance-weighted bound."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.func import vmap

from vbench import IWAE, Batch, Estimate, Estimator, Rng
from vbench_discrete.binary import NEEDS, antithetic, disagreement, spread

__all__ = ["DisarmIWAE"]


class DisarmIWAE(Estimator):
    r"""Importance-weighted bound; each sample is held against its own antithesis, the others kept.

    .. math:: \nabla_\phi: \; \sum_k \tfrac12 \big(\hat L(b_k, b_{-k}) - \hat L(\tilde b_k, b_{-k})\big)\,
       (-1)^{\tilde b_k}\, 1[b_k \ne \tilde b_k]\, \sigma(|\phi|) + \nabla \hat L

    with :math:`\hat L = \log \frac1K \sum_k w_k`, K independent antithetic pairs, and the last, direct term at fixed
    samples; averaged over the two ways of keeping the others, :math:`b_{-k}` and :math:`\tilde b_{-k}`. Unbiased for
    the K-sample bound with K = k; two decoder evaluations a pair, 2k in all. Value and surrogate are ``[B]``, nats.

    Source: Dong, Mnih & Tucker (2020), DisARM: An Antithetic Gradient Estimator for Binary Latent Variables,
    arXiv:2006.10680, section on multi-sample bounds.
    """

    needs = NEEDS
    bound = IWAE()

    def __init__(self, k: Annotated[int, Ge(1), "importance samples per datum, each with its antithesis"] = 5) -> None:
        super().__init__()
        self.k = k

    @property
    def evaluations(self) -> int:
        """Both sides of every pair."""
        return 2 * self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        _, b, mirrored = antithetic(posterior.logits, rng, self.k)
        z = torch.cat([b, mirrored])
        left, right = (model.log_joint(batch, z) - posterior.log_prob(z)).chunk(2)
        value = (self.bound(left) + self.bound(right)) / 2
        signal = (self._gain(left.detach(), right.detach()) - self._gain(right.detach(), left.detach())) / 2
        gradient = (0.5 * spread(signal, b) * disagreement(b, mirrored, posterior.logits)).sum(0)
        through = (gradient.detach() * posterior.logits).flatten(1).sum(1)
        return Estimate(value.detach(), value + through)

    def _gain(self, log_w: Tensor, other: Tensor) -> Tensor:
        """What each sample adds to the bound over its antithesis, ``[K, B]``."""
        own = torch.eye(self.k, dtype=torch.bool, device=log_w.device)[..., None]
        swapped = torch.where(own, other[None], log_w[None])  # [K swapped, K, B]
        gain: Tensor = self.bound(log_w) - vmap(self.bound)(swapped)
        return gain
