"""Straight-through Gumbel-softmax: hard draws forward, relaxed ones backward."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt

from vbench import ELBO, Batch, Estimate, Rng, Space, Trait
from vbench_discrete.relaxation import DiscreteEstimator

__all__ = ["StraightThroughGumbelSoftmax"]


class StraightThroughGumbelSoftmax(DiscreteEstimator):
    r"""ELBO of hard draws with the relaxed draw's Jacobian, and the KL in closed form. Biased.

    .. math:: \nabla_l: \; \nabla_b \log p(x | b)^\top \frac{\partial s}{\partial l} - \nabla_l \mathrm{KL}, \qquad
       s = \mathrm{softmax}((\log \pi + G) / \tau), \quad b = \mathrm{hard}(s)

    l are the logits of binary or categorical latents. Value, decoder and prior are exact; the encoder's likelihood
    part is biased even where the likelihood is linear.

    Source: Jang, Gu & Poole (2017), Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144, section 2.2.
    """

    bound = ELBO()
    unbiased = False

    def __init__(
        self,
        z: Space,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
        temperature: Annotated[float, Gt(0), "of the relaxation"] = 1.0,
    ) -> None:
        super().__init__(z, k)
        self.temperature = temperature
        self.needs |= {Trait.KL, Trait.FACTORIZED_PRIOR}

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``, the same number."""
        posterior, ways = model.posterior(batch), self.relaxation
        u = rng.uniform(self.k, *posterior.logits.shape, dtype=posterior.logits.dtype)
        z = ways.latent(posterior.logits, u)
        soft = ways.soft(z, self.temperature)
        b = ways.hard(z).detach() + (soft - soft.detach())
        value = model.log_likelihood(batch, b).mean(0) - posterior.kl(model.prior_density(batch))
        return Estimate(value.detach(), value)
