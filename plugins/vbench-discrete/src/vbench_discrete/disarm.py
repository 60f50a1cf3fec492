"""DisARM: antithetic pairs of binary latents, integrated over what made them."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, MultipleOf

from vbench import ELBO, Batch, Estimate, Estimator, Rng
from vbench_discrete.binary import NEEDS, antithetic, by_logits, disagreement, scored, spread

__all__ = ["Disarm"]


class Disarm(Estimator):
    r"""ELBO by antithetic pairs, with the uniform behind them integrated out.

    :math:`b = 1[u > 1 - p],\ \tilde b = 1[u < p]` with one uniform u for both.

    .. math:: \nabla_\phi: \; \tfrac12 \big(\log w(b) - \log w(\tilde b)\big)\,
       (-1)^{\tilde b}\, 1[b \ne \tilde b]\, \sigma(|\phi|)

    for the logits :math:`\phi` of each latent variable, averaged over k / 2 pairs; two decoder evaluations a pair.
    Unbiased for the ELBO. It is ARM with u integrated out given the pair, so its variance is never above ARM's. Value
    and surrogate are ``[B]``, nats.

    Source: Dong, Mnih & Tucker (2020), DisARM: An Antithetic Gradient Estimator for Binary Latent Variables,
    arXiv:2006.10680; Yin, Ho, Yan, Qian & Zhou (2020), Probabilistic Best Subset Selection via Gradient-Based
    Optimization, arXiv:2006.06448 (the same, as U2G).
    """

    needs = NEEDS
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(2), MultipleOf(2), "samples per datum, in antithetic pairs"] = 2) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        _, b, mirrored = antithetic(posterior.logits, rng, self.k // 2)
        draws = scored(model, batch, posterior, torch.cat([b, mirrored]))
        left, right = draws.log_w.chunk(2)
        gradient = 0.5 * spread(left - right, b) * disagreement(b, mirrored, posterior.logits)
        return by_logits(draws, gradient.mean(0), posterior.logits)
