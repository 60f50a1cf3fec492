"""beta-VAE: the rate counts more, or less, than the distortion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge
from torch import Tensor

from vbench import Atoms, Batch, Estimate, Estimator, Rng
from vbench_divergence.rate import KL, needs, rate

__all__ = ["Beta", "Tempered"]


@dataclass(frozen=True)
class Tempered:
    r"""ELBO with a weighted rate, :math:`E_q[\log p(x | z)] - \beta\, \mathrm{KL}(q(z | x) \| p(z))`.

    Source: Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework,
    ICLR, https://openreview.net/forum?id=Sy2fzU9gl.
    """

    beta: float
    linear: bool = True

    @property
    def kind(self) -> Literal["lower", "none"]:
        """``lower`` from beta = 1 on, where it lies below the ELBO."""
        return "lower" if self.beta >= 1 else "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, nats."""
        excess = q.log_prob - model.prior_density(batch).log_prob(q.z)
        return (q.log_mass.exp() * (model.log_likelihood(batch, q.z) - self.beta * excess)).sum(0)


class Beta(Estimator):
    r"""beta-VAE, reparameterised.

    .. math:: \frac1K \sum_k \log p(x | z_k) - \beta\, \mathrm{KL}(q(z | x) \| p(z)), \qquad z_k = g(\epsilon_k, x)

    Unbiased for the weighted objective, a lower bound where beta is at least 1. ``kl: analytic`` takes the rate in
    closed form: same estimand, other variance.

    Source: Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework,
    ICLR, https://openreview.net/forum?id=Sy2fzU9gl.
    """

    def __init__(
        self,
        beta: Annotated[float, Ge(0), "weight of the rate; 1 is the ELBO"] = 4.0,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
        kl: Annotated[KL, "estimate the rate by the same draws, or in closed form"] = "sampled",
    ) -> None:
        super().__init__()
        self.beta, self.k, self.kl = beta, k, kl
        self.needs = needs(kl)
        self.bound = Tempered(beta)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``: here they are the same number."""
        posterior = model.posterior(batch)
        draw = posterior.draw(rng, self.k)
        fit = model.log_likelihood(batch, draw.z).mean(0)
        value = fit - self.beta * rate(self.kl, posterior, model.prior_density(batch), draw)
        return Estimate(value.detach(), value)
