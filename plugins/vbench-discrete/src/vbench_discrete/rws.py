"""Reweighted wake-sleep: the encoder follows the posterior instead of the bound."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge

from vbench import IWAE, Batch, Estimate, Estimator, Rng, Trait, Wake

__all__ = ["RWS"]


class RWS(Estimator):
    r"""Reweighted wake-sleep: IWAE for decoder and prior, the wake phase for the encoder.

    .. math:: \nabla_\theta: \; \sum_k \tilde w_k \nabla_\theta \log p(x, z_k), \qquad
       \nabla_\phi: \; \sum_k \tilde w_k \nabla_\phi \log q(z_k | x), \qquad
       \tilde w_k = w_k / \textstyle\sum_j w_j

    Value, decoder and prior are those of the K-sample bound. The encoder's gradient is of no bound: it estimates
    that of :math:`-\mathrm{KL}(p(z | x) \| q)` with a bias that falls as 1/K. Unbiased for its ``target``, the mean of
    the above at its K. One decoder evaluation a sample; any latents with a normalised density. Value and surrogate
    are ``[B]``, nats.

    Source: Bornschein & Bengio (2015), Reweighted Wake-Sleep, arXiv:1406.2751.
    """

    needs = frozenset({Trait.DENSITY, Trait.NORMALIZED})
    bound = IWAE()
    target = Wake()

    def __init__(self, k: Annotated[int, Ge(2), "importance samples per datum"] = 5) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        z = posterior.draw(rng, self.k).z.detach()
        log_q, log_joint = posterior.log_prob(z), model.log_joint(batch, z)
        return Estimate(self.bound((log_joint - log_q).detach()), self.target(log_joint, log_q))
