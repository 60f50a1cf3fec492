"""Inverse autoregressive flow posterior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from zuko.nn import MaskedMLP

from vbench import Batch, Space, activation_layer
from vbench_flows.normalizing import Conditioner, Context, Flow, FlowEncoder, Hidden, Latent, Net, Steps

__all__ = ["IAFEncoder", "InverseAutoregressive"]


@dataclass(frozen=True)
class InverseAutoregressive:
    """One gated step.

    Attributes:
        net: ``[K, B, D + C]`` to ``[K, B, 2 D]``, m and s of each variable in turn, functions of those before it.
        context: ``[B, C]``.
    """

    net: nn.Module
    context: Tensor

    def _gates(self, z: Tensor) -> tuple[Tensor, Tensor]:
        context = self.context.expand(*z.shape[:-1], -1)
        m, s = self.net(torch.cat([z, context], -1)).unflatten(-1, (-1, 2)).unbind(-1)
        return m, s

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and ``[K, B]``."""
        m, s = self._gates(z)
        return s.sigmoid() * z + (-s).sigmoid() * m, functional.logsigmoid(s).sum(-1)

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One variable after the other: D evaluations of the net."""
        found, s = torch.zeros_like(z), torch.zeros_like(z)
        for _ in range(z.shape[-1]):
            m, s = self._gates(found)
            found = z + (z - m) * (-s).exp()
        return found, functional.logsigmoid(s).sum(-1)


class IAFEncoder(FlowEncoder):
    r"""A diagonal Gaussian pushed through gated autoregressive steps.

    .. math:: z' = \sigma(s) \odot z + (1 - \sigma(s)) \odot m, \qquad \log |\det| = \sum_i \log \sigma(s_i)

    where the :math:`m_i, s_i` of a masked net are functions of the :math:`z_j`, j before i, and of a context that the
    encoder's net makes of x; the order is reversed from step to step, and s starts at 1.5, near the identity. Draws
    and their densities take one evaluation of each net, densities of given z D of them. Latents are real, ``[latent]``.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling (2016), Improving Variational Inference with Inverse
    Autoregressive Flow, arXiv:1606.04934.
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
        super().__init__(x, latent, hidden, activation, context)
        before = torch.ones(latent, latent).tril(-1).bool()
        seen = torch.ones(latent, context, dtype=torch.bool)
        layer = partial(activation_layer, activation)
        self.nets = nn.ModuleList()
        for t in range(steps):
            order = before.T if t % 2 else before
            mask = torch.cat([order, seen], -1).repeat_interleave(2, 0)
            net = MaskedMLP(mask, conditioner, layer)
            with torch.no_grad():
                net[-1].bias[1::2] += 1.5
            self.nets.append(net)

    def forward(self, batch: Batch, model: Any) -> Flow:
        """q(z | x)."""
        base, context = self.heads(batch)
        return Flow(base, [InverseAutoregressive(net, context) for net in self.nets])
