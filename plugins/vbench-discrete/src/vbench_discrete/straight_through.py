"""The straight-through estimator: hard draws forward, the mean's Jacobian backward."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor
from torch.func import vjp

from vbench import ELBO, Batch, Estimate, Rng, Space
from vbench_discrete.relaxation import DiscreteEstimator, event_sum

__all__ = ["StraightThrough"]


class StraightThrough(DiscreteEstimator):
    r"""ELBO with gradients sent through the draw as if it were its mean. Biased.

    .. math:: \nabla_l: \; f'(b)^\top \frac{\partial \mu}{\partial l}, \qquad \mu = E[b]

    f is the log weight and l the logits of binary or categorical latents. Exact where f is linear in b, as log q
    and a factorised prior are: the bias is the likelihood's curvature. Value, decoder and prior are exact.
    (The variant that passes f'(b) to the logits themselves, also in the source, is not offered.)

    Source: Bengio, Leonard & Courville (2013), Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation, arXiv:1308.3432.
    """

    bound = ELBO()
    unbiased = False

    def __init__(self, z: Space, k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1) -> None:
        super().__init__(z, k)

    def backward(self, b: Tensor, slope: Tensor, logits: Tensor) -> Tensor:
        """The gradient that reaches the logits, ``[K, B, *Z]``, of the slope f'(b) at the draw b."""
        return self.relaxation.pull(self.relaxation.density(logits).mean, slope)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        logits = model.posterior(batch).logits
        q = self.relaxation.density(logits.detach())
        b = q.draw(rng, self.k).z
        log_w, pull = vjp(lambda z: model.log_joint(batch, z) - q.log_prob(z), b)  # type: ignore[misc]
        (slope,) = pull(log_w.new_ones(log_w.shape))
        g = self.backward(b, slope, logits.detach()).mean(0)
        return Estimate(log_w.mean(0).detach(), event_sum(g.detach() * logits, 1) + log_w.mean(0))
