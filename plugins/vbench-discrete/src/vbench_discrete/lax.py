"""LAX: a learned, reparameterised control variate for continuous latents."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.func import grad

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Space, Trait
from vbench_discrete.relaxation import event_sum, over_event

__all__ = ["Lax"]


class Lax(Estimator):
    r"""ELBO by the likelihood ratio less a learned critic, whose mean comes back pathwise.

    .. math:: \nabla_\phi: \; (f(z) - c_\psi(x, z))\, \nabla_\phi \log q(z | x)
       + \nabla_z c_\psi(x, z)^\top \frac{\partial z}{\partial \phi}

    f is the log weight, of which no slope is asked. Unbiased for the ELBO at any critic. The critic descends the
    variance of this gradient for a shift of q (for a Gaussian: for its mean), :math:`|(c - f) \nabla_z \log q +
    \nabla_z c|^2` of each datum, which needs no parameters of q to be named and reaches nothing but the critic.

    Source: Grathwohl, Choi, Wu, Roeder & Duvenaud (2018), Backpropagation through the Void, arXiv:1711.00123.
    """

    bound = ELBO()
    needs = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})

    def __init__(
        self,
        x: Space,
        z: Space,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
        hidden: Annotated[int, Ge(1), "width of the critic's hidden layer"] = 100,
        lr: Annotated[float, Gt(0), "learning rate of the critic"] = 1e-3,
    ) -> None:
        super().__init__()
        self.k, self.lr, self.size = k, lr, x.size
        self.critic = nn.Sequential(nn.Linear(x.size + z.size, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        q = model.posterior(batch)
        path = q.draw(rng, self.k).z
        z = path.detach()
        x = batch.x.flatten(1).expand(self.k, -1, -1).to(z.dtype)

        def critic(z: Tensor) -> tuple[Tensor, Tensor]:
            c = self.size * self.critic(torch.cat([x, z.flatten(2)], -1))[..., 0]  # nats per scalar of x
            return c.sum(), c

        log_q, log_joint = q.log_prob(z), model.log_joint(batch, z)
        f = (log_joint - log_q).detach()
        slope, c = grad(critic, has_aux=True)(z)
        towards = grad(lambda z: q.log_prob(z).sum())(z).detach()
        shift = (slope - over_event(f - c, z) * towards).mean(0)  # [B, *Z]
        encoder = (f - c).detach() * log_q + event_sum(slope.detach() * path)
        return Estimate(f.mean(0), (encoder + log_joint).mean(0) - event_sum(shift.square(), 1))
