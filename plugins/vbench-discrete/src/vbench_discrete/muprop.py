"""MuProp: a first-order Taylor expansion about the mean as control variate."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge
from torch.func import vjp

from vbench import ELBO, Batch, Estimate, Rng, Space, frozen
from vbench_discrete.relaxation import DiscreteEstimator, event_sum, over_event

__all__ = ["MuProp"]


class MuProp(DiscreteEstimator):
    r"""ELBO by the likelihood ratio with the objective's tangent at the mean as control.

    .. math:: \nabla_l: \; \big( f(b) - f(\mu) - f'(\mu)^\top (b - \mu) \big) \nabla_l \log q(b)
       + f'(\mu)^\top \frac{\partial \mu}{\partial l}, \qquad \mu = E[b]

    f is the log weight and l the logits of binary or categorical latents. Unbiased for the ELBO, without variance
    where f is linear. One decoder evaluation for each sample and one, with its slope, at the mean.

    Source: Gu, Levine, Sutskever & Mnih (2016), MuProp: Unbiased Backpropagation for Stochastic Neural Networks,
    arXiv:1511.05176.
    """

    bound = ELBO()

    def __init__(self, z: Space, k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1) -> None:
        super().__init__(z, k)

    @property
    def evaluations(self) -> int:
        """At each draw, and at the mean."""
        return self.k + 1

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        logits = model.posterior(batch).logits
        q, fixed = self.relaxation.density(logits.detach()), frozen(model)
        b, mean = q.draw(rng, self.k).z, q.mean[None]
        log_joint = model.log_joint(batch, b)
        f = log_joint.detach() - q.log_prob(b)  # [K, B]
        at_mean, pull = vjp(lambda z: fixed.log_joint(batch, z) - q.log_prob(z), mean)  # type: ignore[misc]
        (slope,) = pull(at_mean.new_ones(at_mean.shape))  # [1, B, *Z]
        rest = f - at_mean - event_sum(slope * (b - mean))
        g = (over_event(rest, b) * (b - mean)).mean(0) + self.relaxation.pull(mean, slope)[0]
        return Estimate(f.mean(0), event_sum(g.detach() * logits, 1) + log_joint.mean(0))
