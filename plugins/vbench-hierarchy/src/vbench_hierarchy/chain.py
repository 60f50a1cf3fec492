"""Layers of normals, each made of the one before it: what posteriors and priors of hierarchies are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from vbench import Activation, DiagonalNormal, Draw, Incompatible, Rng, mlp

__all__ = ["TOP_DOWN", "Chain", "NormalNet", "widths_of"]

TOP_DOWN: Final = "top-down"  # the prior's density is a Chain from the top down, whose steps others may share


@dataclass(frozen=True)
class Chain:
    r"""Diagonal normals, :math:`p(z_{(1)})\, p(z_{(2)} | z_{(1)}) \cdots`, upwards from the data or downwards to them.

    Attributes:
        first: the layer that is drawn first, ``[B, D]`` or ``[1, D]``.
        rest: what makes each other layer's normal ``[K, B, D]`` of the layer drawn before it ``[K, B, D]``.
        layers: widths in z, the layer next to the data first, as of ``Space.layers``.
        upward: whether that layer is drawn first too.
    """

    first: DiagonalNormal
    rest: Sequence[Callable[[Tensor], DiagonalNormal]]
    layers: tuple[int, ...]
    upward: bool

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, sum D]``, differentiable; log_q ``[K, B]``."""
        z, log_q, _ = self.first.draw(rng, k)
        drawn = [z]
        for conditional in self.rest:
            normal = conditional(drawn[-1])
            drawn.append(normal.sample(rng))
            log_q = log_q + normal.log_prob(drawn[-1])
        return Draw(torch.cat(drawn if self.upward else drawn[::-1], -1), log_q)

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, sum D] -> [K, B]``, nats."""
        given, *others = z.split(self.layers, -1)[:: 1 if self.upward else -1]
        total = self.first.log_prob(given)
        for conditional, layer in zip(self.rest, others, strict=True):
            total = total + conditional(given).log_prob(layer)
            given = layer
        return total


class NormalNet(nn.Module):
    """``[..., inputs]`` to a diagonal normal of ``[..., outputs]``: mean and log scale, above a floor, from one net."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, activation: Activation, floor: float = 0.0
    ) -> None:
        super().__init__()
        self.net, self.floor = mlp(inputs, hidden, 2 * outputs, activation), floor

    def forward(self, given: Tensor) -> DiagonalNormal:
        """The normal of the next layer."""
        loc, log_scale = self.net(given).chunk(2, -1)
        return DiagonalNormal(loc, self.floor + log_scale.exp())


def widths_of(hidden: Sequence[Sequence[int]], nets: int, what: str) -> Sequence[Sequence[int]]:
    """``hidden``, one entry for each net.

    Raises:
        Incompatible: there are more or fewer.
    """
    if len(hidden) != nets:
        raise Incompatible(f"{what} take {nets} entries in hidden, one for each net, not {len(hidden)}")
    return hidden
