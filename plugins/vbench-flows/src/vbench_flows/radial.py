"""Radial flow posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vbench import Batch, Space
from vbench_flows.normalizing import Flow, FlowEncoder, Hidden, Latent, Net, Steps

__all__ = ["Radial", "RadialEncoder"]


@dataclass(frozen=True)
class Radial:
    """One radial step.

    Attributes:
        centre: ``[B, D]``; alpha: ``[B]``, > 0; total: ``[B]``, alpha + beta > 0.
    """

    centre: Tensor
    alpha: Tensor
    total: Tensor

    @classmethod
    def constrained(cls, centre: Tensor, alpha: Tensor, beta: Tensor) -> Radial:
        """Of any centre ``[B, D]``, alpha ``[B]`` and beta ``[B]``."""
        tiny = torch.finfo(centre.dtype).eps
        return cls(centre, functional.softplus(alpha) + tiny, functional.softplus(beta) + tiny)

    def _log_det(self, r: Tensor, dimensions: int) -> Tensor:
        # (1 + beta h) and (1 + beta h + beta h' r), over a common denominator, where nothing cancels
        across = ((self.total + r) / (self.alpha + r)).log()
        along = (r * (2 * self.alpha + r) + self.alpha * self.total).log() - 2 * (self.alpha + r).log()
        return (dimensions - 1) * across + along

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and ``[K, B]``."""
        offset = z - self.centre
        r = torch.linalg.vector_norm(offset, dim=-1)
        stretch = (self.total + r) / (self.alpha + r)
        return self.centre + stretch[..., None] * offset, self._log_det(r, z.shape[-1])

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The radius solves a quadratic equation."""
        offset = z - self.centre
        image = torch.linalg.vector_norm(offset, dim=-1)
        half = (self.total - image) / 2
        larger = half.abs() + (half.square() + self.alpha * image).sqrt()
        r = torch.where(half > 0, self.alpha * image / larger, larger)
        shrink = (self.alpha + r) / (self.total + r)
        return self.centre + shrink[..., None] * offset, self._log_det(r, z.shape[-1])


class RadialEncoder(FlowEncoder):
    r"""A diagonal Gaussian pushed through radial steps whose parameters are functions of x.

    .. math:: z' = z + \frac{\beta}{\alpha + r} (z - c), \quad r = \|z - c\|, \qquad
       \log |\det| = (D - 1) \log\Big(1 + \frac{\beta}{\alpha + r}\Big)
       + \log\Big(1 + \frac{\alpha \beta}{(\alpha + r)^2}\Big)

    with :math:`\alpha = \log(1 + e^{\hat\alpha})` and :math:`\beta = -\alpha + \log(1 + e^{\hat\beta})`, so that
    :math:`\beta > -\alpha` and the step can be inverted, in closed form. Latents are real, ``[latent]``.

    Source: Rezende & Mohamed (2015), Variational Inference with Normalizing Flows, arXiv:1505.05770.
    """

    def __init__(
        self,
        x: Space,
        latent: Latent = 50,
        hidden: Hidden = (200, 200),
        activation: Net = "tanh",
        steps: Steps = 8,
    ) -> None:
        super().__init__(x, latent, hidden, activation, steps * (latent + 2))
        self.steps = steps

    def forward(self, batch: Batch, model: Any) -> Flow:
        """q(z | x)."""
        base, rest = self.heads(batch)
        cut = (own.split([self.z.size, 1, 1], -1) for own in rest.chunk(self.steps, -1))
        return Flow(base, [Radial.constrained(centre, alpha[:, 0], beta[:, 0]) for centre, alpha, beta in cut])
