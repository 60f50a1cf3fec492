"""Real NVP posterior."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.lazy import LazyComposedTransform
from zuko.transforms import CouplingTransform

from vbench import Activation, Space, activation_layer
from vbench_flows.normalizing import Conditioner, Context, Hidden, Latent, Net, Steps
from vbench_flows.through import ThroughEncoder

__all__ = ["RealNVPEncoder", "couplings"]


class _Coupling(CouplingTransform):
    def merge(self, x_a: Tensor, x_b: Tensor, shape: torch.Size) -> Tensor:
        # zuko writes both halves into an empty tensor, for which vmap over the net's parameters has no rule
        place = torch.cat([self.idx_a, self.idx_b]).argsort()
        return torch.cat([x_a.expand(*x_b.shape[:-1], -1), x_b], -1)[..., place]


class _LazyCoupling(GeneralCouplingTransform):
    def forward(self, c: Tensor | None = None) -> CouplingTransform:
        return _Coupling(partial(self.meta, c), self.mask)


def couplings(size: int, context: int, steps: int, conditioner: Sequence[int], activation: Activation) -> nn.Module:
    """What ``zuko.flows.RealNVP`` is made of: affine couplings, every second variable by turns."""
    layer = partial(activation_layer, activation)
    masks = [torch.arange(size) % 2 == t % 2 for t in range(steps)]
    made = [_LazyCoupling(size, context, mask=m, hidden_features=conditioner, activation=layer) for m in masks]
    return LazyComposedTransform(*made)


class RealNVPEncoder(ThroughEncoder):
    r"""Noise through affine coupling steps, by zuko.

    .. math:: z_a = z'_a, \quad z_b = \mu(z_a, c) + e^{\alpha(z_a, c)} \odot z'_b, \qquad
       \log |\det| = \sum \alpha(z_a, c)

    with a and b every second variable, exchanged from step to step, and a net that sees a context c of x; then
    :math:`\mu(x) + \sigma(x) \odot z`. Draws take two evaluations of each net, densities one. Latents are real,
    ``[latent]``.

    Source: Dinh, Sohl-Dickstein & Bengio (2017), Density Estimation Using Real NVP, arXiv:1605.08803.
    """

    def __init__(
        self,
        x: Space,
        latent: Latent = 50,
        hidden: Hidden = (200, 200),
        activation: Net = "tanh",
        steps: Steps = 4,
        context: Context = 32,
        conditioner: Conditioner = (64,),
    ) -> None:
        transform = couplings(latent, context, steps, conditioner, activation)
        super().__init__(x, latent, hidden, activation, context, transform)
