"""Neural spline flow posterior."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import zuko
from annotated_types import Ge

from vbench import Space, activation_layer
from vbench_flows.normalizing import Conditioner, Context, Hidden, Latent, Net, Steps
from vbench_flows.through import Structure, ThroughEncoder, passes

__all__ = ["NSFEncoder"]


class NSFEncoder(ThroughEncoder):
    r"""Noise through monotonic rational-quadratic splines, by zuko.

    .. math:: z'_i = g(z_i;\, \theta(z_{<i}, c)), \qquad \log |\det| = -\sum_i \log g'(z_i)

    g maps latents to noise: a spline of ``bins`` pieces on [-5, 5], the identity outside; its knots come from a masked
    net that sees a context c of x, then :math:`\mu(x) + \sigma(x) \odot z`. With ``coupling`` one half of the variables
    depends on the other and draws take 3 evaluations of each net, with ``autoregressive`` latent + 1. Latents are
    real, ``[latent]``.

    Source: Durkan, Bekasov, Murray & Papamakarios (2019), Neural Spline Flows, arXiv:1906.04032.
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
        bins: Annotated[int, Ge(2), "pieces of each spline"] = 8,
        structure: Structure = "coupling",
    ) -> None:
        flow = zuko.flows.NSF(
            latent,
            context,
            bins,
            transforms=steps,
            passes=passes(structure),
            hidden_features=conditioner,
            activation=partial(activation_layer, activation),
        )
        super().__init__(x, latent, hidden, activation, context, flow.transform)
