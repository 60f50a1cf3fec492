"""RODEO: leave-one-out with learned controls from a discrete Stein operator."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Space, Trait
from vbench_discrete.binary import NEEDS, by_logits
from vbench_discrete.double_cv import others, with_slopes

__all__ = ["Rodeo"]


class Rodeo(Estimator):
    r"""ELBO by leave-one-out with two controls whose mean a Stein operator makes zero.

    .. math:: \nabla_\phi: \; \tfrac1K \sum_k \Big(\log w_k - \tfrac{1}{K-1} \sum_{j \ne k}
       \big(\log w_j + \alpha (A h_j)(b_j)\big)\Big) s(b_k) + \beta\, (A \tilde h_k s)(b_k), \qquad
       (A h)(b) = \tfrac1D \sum_d q(\lnot b_d) \big(h(\lnot_d b) - h(b)\big)

    for the logits of each latent variable, with :math:`s(b) = b - p`, and :math:`\lnot_d b` the state b with variable
    d turned over. The functions :math:`h_k, \tilde h_k` of b are one small net of the mean log weight of the other
    samples and of the mean of their linearisations :math:`g_j^\top (b - b_j)` (at k = 2 the published form; for more
    samples that takes means after the net). Unbiased for the ELBO with any net and any :math:`\alpha, \beta`; these
    start at 0, which is RLOO, and descend the squared norm of the gradient by logits, as the net does.
    One decoder evaluation a sample, and one backward pass through z. Value and surrogate are ``[B]``, nats.

    Source: Shi, Zhou, Hwang, Titsias & Mackey (2022), Gradient Estimation with Discrete Stein Operators,
    arXiv:2202.09497.
    """

    needs = NEEDS | {Trait.RELAXABLE}
    bound = ELBO()

    def __init__(
        self,
        x: Space,
        k: Annotated[int, Ge(2), "samples per datum"] = 2,
        hidden: Annotated[int, Ge(1), "width of the net's hidden layer"] = 100,
        lr: Annotated[float, Gt(0), "learning rate of the controls"] = 1e-3,
    ) -> None:
        super().__init__()
        self.k, self.lr, self.size = k, lr, x.size
        self.alpha, self.beta = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, 2))

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        z = posterior.draw(rng, self.k).z.detach()
        draws, slope = with_slopes(model, batch, posterior, z)
        logits = posterior.logits.flatten(1)  # [B, D]
        p, b = logits.detach().sigmoid(), z.flatten(2)
        control, vector = self._controls(draws.log_w, slope.flatten(2), b, p)
        signal = draws.log_w - others(draws.log_w + self.alpha * control)
        gradient = (signal[..., None] * (b - p) + self.beta * vector).mean(0)
        value, surrogate, _ = by_logits(draws, gradient, logits)
        return Estimate(value, surrogate - gradient.square().sum(1))

    def _controls(self, log_w: Tensor, slope: Tensor, b: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """``A h`` for the baseline ``[K, B]`` and for the gradient ``[K, B, D]``."""
        away = p * (1 - b) + (1 - p) * b  # probability of the other value
        turn = 1 - 2 * b
        there, here = others(slope), others((slope * b).sum(2))
        linear = (there * b).sum(2) - here
        level = others(log_w) / self.size
        h = self.net(torch.stack([level, linear], -1))[..., None, :]  # [K, B, 1, 2]
        turned = linear[..., None] + there * turn  # linearisation of each neighbour
        h_turned = self.net(torch.stack([level[..., None].expand_as(turned), turned], -1))  # [K, B, D, 2]
        scalar = (away[..., None] * (h_turned - h)).mean(2)  # [K, B, 2]
        vector = scalar[..., 1:] * (b - p) + away * h_turned[..., 1] * turn / b.shape[2]
        return scalar[..., 0], vector
