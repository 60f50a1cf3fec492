"""Gradients of a field at draws that are held fixed."""

from __future__ import annotations

from typing import Any

from vbench import Batch, Bound, Estimate, Estimator, Rng, Target, Trait

__all__ = ["Held"]


class Held(Estimator):
    r"""Ascend a target's field of log p and log q at draws of q through which no gradient flows.

    .. math:: \nabla\, t(\log p(x, z_1), \log q(z_1 | x), \ldots), \qquad z_k \sim q(z | x) \text{ held fixed}

    For any latents with a normalised density.

    Args:
        bound: of the value.
        target: the field.
        k: samples per datum.

    Source: Bornschein & Bengio (2015), Reweighted Wake-Sleep, arXiv:1406.2751.
    """

    needs = frozenset({Trait.DENSITY, Trait.NORMALIZED})

    def __init__(self, bound: Bound, target: Target, k: int) -> None:
        super().__init__()
        self.bound, self.target, self.k = bound, target, k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        z = posterior.draw(rng, self.k).z.detach()
        log_p, log_q = model.log_joint(batch, z), posterior.log_prob(z)
        return Estimate(self.bound((log_p - log_q).detach()), self.target(log_p, log_q))
