"""RELAX: a control variate of the relaxed draw, learned by the gradient's own variance."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.func import grad

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Space, frozen
from vbench_discrete.relaxation import DiscreteEstimator, event_sum, over_event

__all__ = ["RelaxedControl", "relax"]


class RelaxedControl(DiscreteEstimator):
    r"""The likelihood ratio less a control of the draw given its discrete value, whose mean comes back pathwise.

    .. math:: g = (f(b) - c(\tilde z))\, \nabla_l \log q(b) + \nabla_l c(z) - \nabla_l c(\tilde z), \qquad
       c(z) = \eta f(\sigma(z / \tau)) + r(z)

    f is the log weight, l the logits, b = hard(z), and :math:`\tilde z` a draw of z given b. Only z and
    :math:`\tilde z` carry l: the model inside c is frozen. Unbiased for the ELBO whatever :math:`\eta, \tau, r` are;
    they descend :math:`|g|^2` of each datum, summed over its logits, which reaches nothing else.

    Args:
        z: the latent space, binary or categorical.
        k: samples per datum, averaged.
        critic: r, ``[K, B, Z flattened] -> [K, B, 1]``, nats; None for none.
        temperature: initial tau.
        lr: learning rate of eta, tau and r.
    """

    bound = ELBO()

    def __init__(self, z: Space, k: int, critic: nn.Module | None, temperature: float, lr: float) -> None:
        super().__init__(z, k)
        self.critic, self.lr = critic, lr
        self.eta = nn.Parameter(torch.ones(()))
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    @property
    def evaluations(self) -> int:
        """At the discrete, the relaxed and the conditional draw."""
        return 3 * self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        logits = model.posterior(batch).logits
        start, ways, fixed = logits.detach(), self.relaxation, frozen(model)
        u, v = (rng.uniform(self.k, *logits.shape, dtype=logits.dtype) for _ in range(2))
        q, b = ways.density(start), ways.hard(ways.latent(start, u))
        log_joint = model.log_joint(batch, b)
        f = log_joint.detach() - q.log_prob(b)  # [K, B]

        def control(z: Tensor) -> Tensor:
            soft = ways.soft(z, self.log_temperature.exp())
            c = self.eta * (fixed.log_joint(batch, soft) - q.log_prob(soft))
            return c if self.critic is None else c + self.critic(z.flatten(2))[..., 0]

        def difference(logits: Tensor) -> tuple[Tensor, Tensor]:
            c = control(torch.cat([ways.latent(logits, u), ways.conditional(logits, b, v)]))
            free, given = c.chunk(2)
            return (free - given).mean(0).sum(), given

        path, given = grad(difference, has_aux=True)(start)
        g = (over_event(f - given, b) * (b - q.mean)).mean(0) + path  # [B, *Z]
        encoder = event_sum(g.detach() * logits, 1)
        return Estimate(f.mean(0), encoder + log_joint.mean(0) - event_sum(g.square(), 1))


def relax(
    z: Space,
    k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    hidden: Annotated[int, Ge(1), "width of the critic's hidden layer"] = 137,
    temperature: Annotated[float, Gt(0), "of the relaxed draws in the control, at the start"] = 0.5,
    lr: Annotated[float, Gt(0), "learning rate of critic, scale and temperature"] = 1e-3,
) -> Estimator:
    r"""ELBO by the likelihood ratio with a learned control of the relaxed draw.

    .. math:: \nabla_l: \; (f(b) - c(\tilde z))\, \nabla_l \log q(b) + \nabla_l c(z) - \nabla_l c(\tilde z), \qquad
       c(z) = \eta f(\sigma(z / \tau)) + r_\psi(z)

    Binary latents, or categorical ones with Gumbel draws. Unbiased for the ELBO at any control; the critic
    :math:`r_\psi` starts at zero, as REBAR. Three decoder evaluations for each sample.

    Source: Grathwohl, Choi, Wu, Roeder & Duvenaud (2018), Backpropagation through the Void, arXiv:1711.00123.
    """
    net = nn.Sequential(nn.Linear(z.size, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, 1))
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return RelaxedControl(z, k, net, temperature, lr)
