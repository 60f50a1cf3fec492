"""Pathwise (reparameterisation) gradients of any bound."""

from __future__ import annotations

from typing import Any

from vbench.bounds import ELBO
from vbench.rng import Rng
from vbench.types import Batch, Bound, Estimate, Estimator, Trait

__all__ = ["AnalyticKL", "Pathwise"]


class Pathwise(Estimator):
    r"""Differentiate the bound through the draws.

    .. math:: \nabla\, l(\log w_1, \ldots, \log w_K), \qquad z_k = g(\epsilon_k, x)

    Unbiased for the bound at its K, for all parameters at once.

    Args:
        bound: function of the log weights.
        k: samples per datum.

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114; Rezende, Mohamed & Wierstra
    (2014), Stochastic Backpropagation, arXiv:1401.4082.
    """

    needs = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT})

    def __init__(self, bound: Bound, k: int) -> None:
        super().__init__()
        self.bound, self.k = bound, k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``: here they are the same number."""
        draw = model.posterior(batch).draw(rng, self.k)
        value = self.bound(model.log_joint(batch, draw.z) - draw.log_q)  # type: ignore[misc,operator]
        return Estimate(value.detach(), value)


class AnalyticKL(Estimator):
    r"""Pathwise ELBO with the KL in closed form, :math:`\frac1K\sum_k \log p(x | z_k) - \mathrm{KL}(q \| p)`.

    The same estimand as :class:`Pathwise` on the ELBO, another variance (not always a smaller one).

    Source: Kingma & Welling (2014), arXiv:1312.6114, equation 7.
    """

    needs = frozenset({Trait.PATHWISE, Trait.KL, Trait.FACTORIZED_PRIOR})
    bound = ELBO()

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``."""
        posterior = model.posterior(batch)
        fit = model.log_likelihood(batch, posterior.draw(rng, self.k).z).mean(0)
        value = fit - posterior.kl(model.prior_density(batch))
        return Estimate(value.detach(), value)
