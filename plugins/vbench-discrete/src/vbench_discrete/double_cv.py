"""Double control variates: leave-one-out with a second control from the model's gradient in z."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.func import vjp

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Trait
from vbench_discrete.binary import NEEDS, Scored, by_logits, spread

__all__ = ["DoubleCV", "others", "with_slopes"]


class DoubleCV(Estimator):
    r"""ELBO by leave-one-out, the signal corrected by its own linearisation at the other samples.

    .. math:: \nabla_\phi: \; \tfrac1K \sum_k \Big(F_k - \tfrac{1}{K - 1} \sum_{j \ne k} F_j\Big) (b_k - p)
       - \alpha\, \bar g \, p (1 - p), \qquad F_k = \log w(b_k) + \alpha\, \bar g_{-k}^\top (b_k - p)

    for the logits of each latent variable, where :math:`g = \nabla_b \log w` takes b for continuous, and
    :math:`\bar g`, :math:`\bar g_{-k}` are its means over all samples and over the others. Unbiased for the ELBO with
    any :math:`\alpha` and any g. The one parameter :math:`\alpha` starts at 0, which is RLOO, and descends the squared
    norm of the gradient by logits. One decoder evaluation a sample, and one backward pass through z. Value and
    surrogate are ``[B]``, nats.

    Source: Titsias & Shi (2022), Double Control Variates for Gradient Estimation in Discrete Latent Variable Models,
    arXiv:2111.05300.
    """

    needs = NEEDS | {Trait.RELAXABLE}
    bound = ELBO()

    def __init__(
        self,
        k: Annotated[int, Ge(2), "samples per datum"] = 2,
        lr: Annotated[float, Gt(0), "learning rate of the control's one parameter"] = 1e-3,
    ) -> None:
        super().__init__()
        self.k, self.lr = k, lr
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        z = posterior.draw(rng, self.k).z.detach()
        draws, slope = with_slopes(model, batch, posterior, z)
        p = posterior.logits.detach().sigmoid()
        control = ((z - p) * others(slope)).flatten(2).sum(2)
        plain = _leave_one_out(draws.log_w, z - p)
        linear = _leave_one_out(control, z - p) - slope.mean(0) * p * (1 - p)
        gradient = plain + self.alpha * linear
        loss = gradient.square().flatten(1).sum(1)
        value, surrogate, _ = by_logits(draws, gradient, posterior.logits)
        return Estimate(value, surrogate - loss)


def with_slopes(model: Any, batch: Batch, posterior: Any, z: Tensor) -> tuple[Scored, Tensor]:
    """What the model says at ``z``, and the slope of the log weights in z, ``[K, B, *Z]``."""

    def log_weight(z: Tensor) -> tuple[Tensor, Tensor]:
        log_joint = model.log_joint(batch, z)
        return log_joint - posterior.log_prob(z), log_joint

    log_w, pull, log_joint = vjp(log_weight, z, has_aux=True)  # type: ignore[misc]
    (slope,) = pull(torch.ones_like(log_w))
    return Scored(log_joint, log_w.detach()), slope.detach()


def others(values: Tensor) -> Tensor:
    """The mean over the other samples, ``[K, ...]``; never the sum less the own one, which would cancel."""
    k = values.shape[0]
    own = torch.eye(k, dtype=torch.bool, device=values.device).reshape(k, k, *(1 for _ in values.shape[1:]))
    return torch.where(own, 0, values[None]).sum(1) / (k - 1)


def _leave_one_out(signal: Tensor, score: Tensor) -> Tensor:
    """RLOO of ``signal [K, B]`` with ``score [K, B, *Z]``: ``[B, *Z]``."""
    return (spread(signal - others(signal), score) * score).mean(0)
