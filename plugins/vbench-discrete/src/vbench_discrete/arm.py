"""ARM: augment, REINFORCE, merge."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, MultipleOf

from vbench import ELBO, Batch, Estimate, Estimator, Rng
from vbench_discrete.binary import NEEDS, antithetic, by_logits, scored, spread

__all__ = ["Arm"]


class Arm(Estimator):
    r"""ELBO by the score of a uniform that makes both samples of a pair.

    .. math:: \nabla_\phi: \; \big(u - \tfrac12\big)
       \big(\log w(1[u > \sigma(-\phi)]) - \log w(1[u < \sigma(\phi)])\big)

    for the logits :math:`\phi` of each latent variable, averaged over k / 2 pairs; two decoder evaluations a pair.
    Unbiased for the ELBO. Value and surrogate are ``[B]``, nats.

    Source: Yin & Zhou (2019), ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks, arXiv:1807.11143.
    """

    needs = NEEDS
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(2), MultipleOf(2), "samples per datum, in antithetic pairs"] = 2) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        u, b, mirrored = antithetic(posterior.logits, rng, self.k // 2)
        draws = scored(model, batch, posterior, torch.cat([b, mirrored]))
        left, right = draws.log_w.chunk(2)
        gradient = (u - 0.5) * spread(left - right, b)
        return by_logits(draws, gradient.mean(0), posterior.logits)
