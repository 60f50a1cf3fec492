"""Flows whose steps are zuko's, as steps of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Transform

from vbench import Activation, Batch, DiagonalNormal, Space
from vbench_flows.normalizing import Flow, FlowEncoder

__all__ = ["Affine", "Structure", "Through", "ThroughEncoder", "passes", "standard"]

Structure = Annotated[Literal["autoregressive", "coupling"], "whether all variables or two halves follow one another"]


def passes(structure: str) -> int | None:
    """How often zuko evaluates a masked net to invert it: two halves, or one variable after the other."""
    return 2 if structure == "coupling" else None


@dataclass(frozen=True)
class Through:
    """A transform from latents to the base, which is how zuko writes flows: one pass for a density.

    Attributes:
        transform: of the last dimension.
    """

    transform: Transform

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and ``[K, B]``."""
        image, log_det = self.transform.inv.call_and_ladj(z)
        return image, log_det

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One pass."""
        found, log_det = self.transform.call_and_ladj(z)
        return found, -log_det


@dataclass(frozen=True)
class Affine:
    """Location and scale, ``[B, D]`` each."""

    loc: Tensor
    scale: Tensor

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and ``[B]``."""
        return self.loc + self.scale * z, self.scale.log().sum(-1)

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Back."""
        return (z - self.loc) / self.scale, self.scale.log().sum(-1)


def standard(like: Tensor) -> DiagonalNormal:
    """The standard normal of that shape."""
    return DiagonalNormal(torch.zeros_like(like), torch.ones_like(like))


class ThroughEncoder(FlowEncoder):
    """Standard normal noise through a zuko flow that sees a context, then location and scale, all made of x.

    Location and scale come last, so that the flow works in units of the posterior: splines act on [-5, 5] alone.
    """

    def __init__(
        self,
        x: Space,
        latent: int,
        hidden: Sequence[int],
        activation: Activation,
        context: int,
        transform: nn.Module,
    ) -> None:
        super().__init__(x, latent, hidden, activation, context)
        self.transform = transform

    def forward(self, batch: Batch, model: Any) -> Flow:
        """q(z | x)."""
        normal, context = self.heads(batch)
        return Flow(standard(normal.loc), [Through(self.transform(context)), Affine(normal.loc, normal.scale)])
