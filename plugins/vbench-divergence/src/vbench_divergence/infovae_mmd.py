"""InfoVAE: the rate is exchanged for a discrepancy of the aggregate posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

from vbench import Atoms, Batch, Estimate, Estimator, Rng, Trait
from vbench_divergence.draws import prior_draws
from vbench_divergence.mmd import Kernel, between_atoms, mmd2
from vbench_divergence.rate import rate

__all__ = ["InfoVAEMMD", "Information"]


@dataclass(frozen=True)
class Information:
    r"""InfoVAE's objective with MMD^2 as its divergence.

    .. math:: E_q[\log p(x | z)] - (1 - \alpha)\, \mathrm{KL}(q(z | x) \| p(z))
       - (\alpha + \lambda - 1)\, \mathrm{MMD}^2(q(z), p(z))

    Source: Zhao, Song & Ermon (2017), InfoVAE, arXiv:1706.02262.
    """

    alpha: float
    weight: float
    kernel: Kernel
    width: float
    linear: bool = True
    kind: Literal["none"] = "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, nats."""
        excess = q.log_prob - model.prior_density(batch).log_prob(q.z)
        own = (q.log_mass.exp() * (model.log_likelihood(batch, q.z) - (1 - self.alpha) * excess)).sum(0)
        return own - (self.alpha + self.weight - 1) * between_atoms(q, p, self.kernel, self.width)


class InfoVAEMMD(Estimator):
    r"""InfoVAE with MMD, reparameterised.

    .. math:: \frac1K \sum_k \log p(x | z_k) - (1 - \alpha)\, \mathrm{KL}(q(z | x) \| p(z))
       - (\alpha + \lambda - 1)\, \widehat{\mathrm{MMD}}^2

    The last is the unbiased U-statistic between one posterior draw of each datum of the batch and as many draws of the
    prior, averaged over K such sets: draws of different data are independent draws of the aggregate posterior. Data
    interact. Unbiased for the objective where draws of the prior carry their gradient (normal
    priors; the choice of a mixture's component does not). alpha = 1 drops the rate and its need of a density:
    MMD-VAE; alpha = 0, lambda = 1 is the ELBO.

    Source: Zhao, Song & Ermon (2017), InfoVAE: Balancing Learning and Inference in Variational Autoencoders,
    arXiv:1706.02262.
    """

    coupled = True

    def __init__(
        self,
        alpha: Annotated[float, Le(1), "how much of the rate is dropped"] = 0.0,
        weight: Annotated[float, Ge(0), "lambda; MMD^2 counts alpha + lambda - 1 times"] = 10.0,
        kernel: Annotated[Kernel, "inverse multiquadratic, or Gaussian"] = "imq",
        width: Annotated[float, Gt(0), "of the kernel, in standard deviations of a standard normal prior"] = 1.0,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    ) -> None:
        super().__init__()
        self.alpha, self.weight, self.kernel, self.width, self.k = alpha, weight, kernel, width, k
        self.needs = frozenset({Trait.PATHWISE}) | ({Trait.NORMALIZED} if alpha < 1 else frozenset())
        self.bound = Information(alpha, weight, kernel, width)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[]``."""
        posterior = model.posterior(batch)
        draw = posterior.draw(rng, self.k)
        value = model.log_likelihood(batch, draw.z).mean(0)
        if self.alpha < 1:
            value = value - (1 - self.alpha) * rate("sampled", posterior, model.prior_density(batch), draw)
        prior = prior_draws(model, rng, self.k, len(batch.x)).flatten(2)
        apart = mmd2(draw.z.flatten(2), prior, self.kernel, self.width).mean()
        value = value - (self.alpha + self.weight - 1) * apart
        return Estimate(value.detach(), value.mean())
