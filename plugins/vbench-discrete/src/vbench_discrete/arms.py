"""ARMS: several samples, all of them antithetic to each other."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor

from vbench import ELBO, Batch, Estimate, Estimator, Rng
from vbench_discrete.binary import NEEDS, by_logits, scored, spread

__all__ = ["Arms"]


class Arms(Estimator):
    r"""ELBO by k mutually antithetic samples from a Dirichlet copula.

    .. math:: \nabla_\phi: \; \frac{\rho}{k - 1} \sum_i \big(\log w(b_i) - \overline{\log w}\big) (b_i - p), \qquad
       \rho = \frac{p (1 - p)}{p - P(b_i = b_j = 1)}

    for the logits :math:`\phi = \mathrm{logit}\, p` of each latent variable. The copula is
    :math:`u_i = (1 - d_i)^{k - 1}` with :math:`d` uniform on the simplex; the less likely of the two outcomes is
    given to :math:`u_i < q`, :math:`q = \min(p, 1 - p)`. Unbiased for the ELBO; at k = 2 it is DisARM. One decoder
    evaluation a sample. Value and surrogate are ``[B]``, nats.

    Source: Dimitriev & Zhou (2021), ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables,
    arXiv:2105.14141.
    """

    needs = NEEDS
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(2), "antithetic samples per datum"] = 4) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        logits = posterior.logits.detach()
        b = self._draw(logits, rng)
        draws = scored(model, batch, posterior, b)
        signal = (draws.log_w - draws.log_w.mean(0)) / (self.k - 1)
        gradient = (spread(signal, b) * (b - logits.sigmoid())).sum(0) * self._correction(logits)
        return by_logits(draws, gradient, posterior.logits)

    def _draw(self, logits: Tensor, rng: Rng) -> Tensor:
        """Antithetic samples ``[K, B, *Z]``."""
        e = -rng.uniform(self.k, *logits.shape, dtype=logits.dtype).log()
        u = (1 - e / e.sum(0)) ** (self.k - 1)
        rare = (u < (-logits.abs()).sigmoid()).to(logits.dtype)
        return (logits < 0) * rare + (logits >= 0) * (1 - rare)

    def _correction(self, logits: Tensor) -> Tensor:
        """rho ``[B, *Z]`` from q = min(p, 1 - p): (1 - q) / (1 - P(both rare) / q), so that nothing cancels."""
        q = (-logits.abs()).sigmoid()
        both = (2 - q ** (-1 / (self.k - 1))).clamp(min=0) ** (self.k - 1)
        return (1 - q) / (1 - both)
