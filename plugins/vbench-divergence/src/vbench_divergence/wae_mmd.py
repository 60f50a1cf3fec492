"""WAE-MMD: reconstruct, and match the aggregate posterior to the prior by MMD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from vbench import Atoms, Batch, Estimate, Estimator, Rng, Trait
from vbench_divergence.cost import Cost, fit
from vbench_divergence.draws import prior_draws
from vbench_divergence.mmd import Kernel, between_atoms, mmd2

__all__ = ["WAEMMD", "Transport"]


@dataclass(frozen=True)
class Transport:
    r"""Penalised optimal transport, :math:`-E_q[c(x, G(z))] - \lambda\, \mathrm{MMD}^2(q(z), p(z))`.

    Source: Tolstikhin, Bousquet, Gelly & Schoelkopf (2018), Wasserstein Auto-Encoders, arXiv:1711.01558.
    """

    weight: float
    cost: Cost
    kernel: Kernel
    width: float
    linear: bool = True
    kind: Literal["none"] = "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``."""
        own = (q.log_mass.exp() * fit(self.cost, model, batch, q.z)).sum(0)
        return own - self.weight * between_atoms(q, p, self.kernel, self.width)


class WAEMMD(Estimator):
    r"""Wasserstein autoencoder with an MMD penalty; the value is minus what is minimised.

    .. math:: \frac1B \sum_b c(x_b, G(z_b)) + \lambda\, \widehat{\mathrm{MMD}}^2(\{z_b\}, \{z'_b\}), \qquad
       z_b \sim q(z | x_b), \; z'_b \sim p(z)

    G(z) is the likelihood's mean and c the squared error; ``cost: likelihood`` takes -log p(x | z) instead, nats. The
    penalty is the unbiased U-statistic, averaged over K sets of draws; data interact. Unbiased for the objective where
    draws of the prior carry their gradient (normal priors). It needs no density, so a deterministic encoder does.

    Source: Tolstikhin, Bousquet, Gelly & Schoelkopf (2018), Wasserstein Auto-Encoders, arXiv:1711.01558, algorithm 2.
    """

    needs = frozenset({Trait.PATHWISE, Trait.MEAN})
    coupled = True

    def __init__(
        self,
        weight: Annotated[float, Ge(0), "lambda, of the penalty"] = 10.0,
        cost: Annotated[Cost, "squared error of the likelihood's mean, or minus the log likelihood"] = "squared",
        kernel: Annotated[Kernel, "inverse multiquadratic, or Gaussian"] = "imq",
        width: Annotated[float, Gt(0), "of the kernel, in standard deviations of a standard normal prior"] = 1.0,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    ) -> None:
        super().__init__()
        self.weight, self.cost, self.kernel, self.width, self.k = weight, cost, kernel, width, k
        self.bound = Transport(weight, cost, kernel, width)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[]``."""
        z = model.posterior(batch).draw(rng, self.k).z
        prior = prior_draws(model, rng, self.k, len(batch.x)).flatten(2)
        apart = mmd2(z.flatten(2), prior, self.kernel, self.width).mean()
        value = fit(self.cost, model, batch, z).mean(0) - self.weight * apart
        return Estimate(value.detach(), value.mean())
