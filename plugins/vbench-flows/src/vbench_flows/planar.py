"""Planar flow posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from vbench import Batch, Space
from vbench_flows.normalizing import Flow, FlowEncoder, Hidden, Latent, Net, Steps
from vbench_flows.roots import tanh_root

__all__ = ["Planar", "PlanarEncoder"]

_SHIFT: Final = math.log(math.e - 1)  # softplus(shift) = 1


@dataclass(frozen=True)
class Planar:
    """One planar step with a vector u that keeps it invertible.

    Attributes:
        u, w: ``[B, D]``; b: ``[B]``; rate: ``[B]``, 1 + w'u > 0, the least slope along w.
    """

    u: Tensor
    w: Tensor
    b: Tensor
    rate: Tensor

    @classmethod
    def constrained(cls, u: Tensor, w: Tensor, b: Tensor) -> Planar:
        """Of any u ``[B, D]``, w ``[B, D]`` and b ``[B]``."""
        tiny = torch.finfo(u.dtype).tiny ** 0.5
        inner = (w * u).sum(-1)
        rate = functional.softplus(inner + _SHIFT).clamp(min=torch.finfo(u.dtype).eps)
        along = (rate - 1 - inner) / w.square().sum(-1).clamp(min=tiny)
        return cls(u + along[:, None] * w, w, b, rate)

    def _log_det(self, h: Tensor) -> Tensor:
        squared = h.square()
        return (squared + (1 - squared) * self.rate).log()

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and ``[K, B]``."""
        h = ((z * self.w).sum(-1) + self.b).tanh()
        return z + h[..., None] * self.u, self._log_det(h)

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One equation in one unknown, w'z."""
        h = tanh_root((z * self.w).sum(-1) + self.b, self.rate).tanh()
        return z - h[..., None] * self.u, self._log_det(h)


class PlanarEncoder(FlowEncoder):
    r"""A diagonal Gaussian pushed through planar steps whose parameters are functions of x.

    .. math:: z' = z + \hat u \tanh(w^\top z + b), \qquad
       \log |\det| = \log\big(1 + \tanh'(w^\top z + b)\, \hat u^\top w\big)

    with :math:`\hat u = u + (m(w^\top u) - w^\top u)\, w / \|w\|^2` and :math:`m(a) = -1 + \log(1 + e^{a + \kappa})`,
    so that :math:`w^\top \hat u > -1`. The source has :math:`\kappa = 0`; :math:`\kappa = \log(e - 1)` is the same
    family, u moved along w, where u = 0 is the identity and small w do no harm. Densities of given z solve one scalar
    equation a step. Latents are real, ``[latent]``.

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
        super().__init__(x, latent, hidden, activation, steps * (2 * latent + 1))
        self.steps = steps

    def forward(self, batch: Batch, model: Any) -> Flow:
        """q(z | x)."""
        base, rest = self.heads(batch)
        latent = self.z.size
        cut = (own.split([latent, latent, 1], -1) for own in rest.chunk(self.steps, -1))
        return Flow(base, [Planar.constrained(u, w, b[:, 0]) for u, w, b in cut])
