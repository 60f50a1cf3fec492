"""Reweighted wake-sleep with a doubly reparameterised encoder gradient."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge

from vbench import IWAE, Batch, Estimate, Estimator, Rng, Trait, Wake
from vbench_discrete.binary import spread
from vbench_discrete.double_cv import with_slopes

__all__ = ["RWSDReG"]


class RWSDReG(Estimator):
    r"""The targets of ``rws``, the encoder's by the path through z.

    .. math:: \nabla_\theta: \; \sum_k \tilde w_k \nabla_\theta \log p(x, z_k), \qquad
       \nabla_\phi: \; \sum_k (\tilde w_k - \tilde w_k^2) \frac{\partial \log w_k}{\partial z_k}
       \frac{\partial z_k}{\partial \phi}

    The score in the wake gradient is itself reparameterised, so both have the same expectation at every K and the
    same ``target``: value, decoder and prior are the K-sample bound's, the encoder's gradient is of no bound. For
    latents with differentiable draws; one decoder evaluation a sample. Value and surrogate are ``[B]``, nats.

    Source: Tucker, Lawson, Gu & Maddison (2019), Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives,
    arXiv:1810.04152.
    """

    needs = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})
    bound = IWAE()
    target = Wake()

    def __init__(self, k: Annotated[int, Ge(2), "importance samples per datum"] = 5) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        z = posterior.draw(rng, self.k).z
        (log_joint, log_w), slope = with_slopes(model, batch, posterior, z.detach())
        weight = log_w.softmax(0)
        through_z = (spread(weight - weight.square(), z) * slope * z).flatten(2).sum((0, 2))
        return Estimate(self.bound(log_w), (weight * log_joint).sum(0) + through_z)
