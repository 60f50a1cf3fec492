"""Gumbel-softmax, or Concrete: train a relaxed objective, report the discrete one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from vbench import ELBO, Batch, Estimate, Rng, Space, Trait, frozen
from vbench_discrete.relaxation import DiscreteEstimator

__all__ = ["GumbelSoftmax"]


class GumbelSoftmax(DiscreteEstimator):
    r"""Pathwise gradient of a relaxed objective; the value is the discrete model's ELBO. Biased.

    .. math:: \nabla \log p(x | s) - \mathrm{KL}, \qquad s = \mathrm{softmax}((\log \pi + G) / \tau)

    (for binary latents a sigmoid of a logistic variable). The KL is the closed form of the discrete densities at the
    probabilities (``discrete``, Jang), or sampled from the relaxed densities of q at tau and the prior at its own
    temperature (``relaxed``, Maddison; a lower bound of the relaxed model's evidence). Biased for the discrete ELBO
    in encoder and decoder, less at small tau, where its variance grows. Two decoder evaluations for each sample: at s,
    and without gradient at the discrete draw.

    Source: Jang, Gu & Poole (2017), Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144; Maddison,
    Mnih & Teh (2017), The Concrete Distribution, arXiv:1611.00712.
    """

    bound = ELBO()
    unbiased = False

    def __init__(
        self,
        z: Space,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
        kl: Annotated[
            Literal["relaxed", "discrete"], "between relaxed densities, by sampling, or between discrete ones, exactly"
        ] = "relaxed",
        temperature: Annotated[float, Gt(0), "of the posterior's relaxation"] = 2 / 3,
        prior_temperature: Annotated[float, Gt(0), "of the prior's relaxation, where kl is relaxed"] = 0.5,
    ) -> None:
        super().__init__(z, k)
        self.kl, self.temperature, self.prior_temperature = kl, temperature, prior_temperature
        self.needs |= {Trait.KL, Trait.FACTORIZED_PRIOR}

    @property
    def evaluations(self) -> int:
        """At the relaxed draw and, for the value, at the discrete one."""
        return 2 * self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` of the discrete model; surrogate ``[B]``, the relaxed objective."""
        posterior, ways = model.posterior(batch), self.relaxation
        prior, logits = model.prior_density(batch), posterior.logits
        z = ways.latent(logits, rng.uniform(self.k, *logits.shape, dtype=logits.dtype))
        y = ways.scaled(z, self.temperature)
        fit = model.log_likelihood(batch, ways.squash(y)).mean(0)
        if self.kl == "discrete":
            divergence = posterior.kl(prior)
        else:
            own = ways.log_density(y, logits, self.temperature)
            divergence = (own - ways.log_density(y, prior.logits, self.prior_temperature)).mean(0)
        b = ways.hard(z).detach()
        value = frozen(model).log_joint(batch, b) - ways.density(logits.detach()).log_prob(b)
        return Estimate(value.mean(0), fit - divergence)
