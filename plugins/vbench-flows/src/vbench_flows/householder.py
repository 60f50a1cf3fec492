"""Householder flow posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vbench import Batch, Space
from vbench_flows.normalizing import Flow, FlowEncoder, Hidden, Latent, Net, Steps

__all__ = ["Householder", "HouseholderEncoder"]


@dataclass(frozen=True)
class Householder:
    """A reflection, its own inverse.

    Attributes:
        v: ``[B, D]``, of any length.
    """

    v: Tensor

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and zeros ``[K, B]``."""
        tiny = torch.finfo(z.dtype).tiny ** 0.5
        along = (z * self.v).sum(-1) / self.v.square().sum(-1).clamp(min=tiny)
        return z - 2 * along[..., None] * self.v, torch.zeros_like(along)

    pull = push


class HouseholderEncoder(FlowEncoder):
    r"""A Gaussian with a full covariance: a diagonal one, reflected.

    .. math:: z' = \Big(I - 2 \frac{v v^\top}{\|v\|^2}\Big) z, \qquad \log |\det| = 0

    The first v comes from the encoder's net, each further one from the one before by a linear layer. Latents are
    real, ``[latent]``.

    Source: Tomczak & Welling (2016), Improving Variational Auto-Encoders using Householder Flow, arXiv:1611.09630.
    """

    def __init__(
        self,
        x: Space,
        latent: Latent = 50,
        hidden: Hidden = (200, 200),
        activation: Net = "tanh",
        steps: Steps = 8,
    ) -> None:
        super().__init__(x, latent, hidden, activation, latent)
        self.further = nn.ModuleList(nn.Linear(latent, latent) for _ in range(steps - 1))

    def forward(self, batch: Batch, model: Any) -> Flow:
        """q(z | x)."""
        base, v = self.heads(batch)
        steps = [Householder(v)]
        for layer in self.further:
            v = layer(v)
            steps.append(Householder(v))
        return Flow(base, steps)
