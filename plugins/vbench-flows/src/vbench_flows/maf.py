"""Masked autoregressive flow posterior."""

from __future__ import annotations

from functools import partial

import zuko

from vbench import Space, activation_layer
from vbench_flows.normalizing import Conditioner, Context, Hidden, Latent, Net, Steps
from vbench_flows.through import ThroughEncoder

__all__ = ["MAFEncoder"]


class MAFEncoder(ThroughEncoder):
    r"""Noise through masked autoregressive steps, by zuko.

    .. math:: z_i = \mu(z_{<i}, c) + e^{\alpha(z_{<i}, c)} z'_i, \qquad \log |\det| = \sum_i \alpha(z_{<i}, c)

    with :math:`\mu, \alpha` from a masked net that sees a context c of x, and the order reversed from step to step;
    then :math:`\mu(x) + \sigma(x) \odot z`. Densities take one evaluation of each net, draws latent + 1 of them, the
    opposite of ``iaf``. Latents are real, ``[latent]``.

    Source: Papamakarios, Pavlakou & Murray (2017), Masked Autoregressive Flow for Density Estimation, arXiv:1705.07057.
    """

    def __init__(
        self,
        x: Space,
        latent: Latent = 50,
        hidden: Hidden = (200, 200),
        activation: Net = "tanh",
        steps: Steps = 2,
        context: Context = 32,
        conditioner: Conditioner = (64,),
    ) -> None:
        layer = partial(activation_layer, activation)
        flow = zuko.flows.MAF(latent, context, steps, hidden_features=conditioner, activation=layer)
        super().__init__(x, latent, hidden, activation, context, flow.transform)
