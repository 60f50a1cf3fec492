"""Several stochastic layers, inferred from the data upwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, MinLen
from torch import nn

from vbench import Activation, Batch, Encoder, Space, Trait
from vbench_hierarchy.chain import Chain, NormalNet, widths_of

__all__ = ["Hidden", "HierarchyEncoder", "Latent", "stacked"]

Latent = Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1), "latents of each layer, the one next to the data first"]
Hidden = Sequence[Sequence[Annotated[int, Ge(1)]]]


class HierarchyEncoder(Encoder):
    r"""A Markov chain of diagonal Gaussians from the data upwards.

    .. math:: q(z | x) = q(z_1 | x)\, q(z_2 | z_1) \cdots q(z_L | z_{L-1})

    Each step has a net of its own for mean and log scale. Latents are stacked, ``[sum latent]``, z_1 first; decoders
    see z_1. One layer is the plain Gaussian encoder.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519 (section 5.1: two
    layers, 100 and 50).
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        latent: Latent = (100, 50),
        hidden: Annotated[Hidden, "widths of the hidden layers below each"] = ((200, 200), (100, 100)),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = stacked(latent)
        widths = widths_of(hidden, len(latent), f"{len(latent)} layers")
        inputs = (x.size, *latent[:-1])
        self.nets = nn.ModuleList(
            NormalNet(below, wide, size, activation) for below, wide, size in zip(inputs, widths, latent, strict=True)
        )

    def forward(self, batch: Batch, model: Any) -> Chain:
        """q(z | x)."""
        first, *rest = self.nets
        return Chain(first(batch.x.flatten(1)), rest, self.z.layers, upward=True)


def stacked(latent: Sequence[int]) -> Space:
    """The space of a hierarchy of real layers."""
    return Space((sum(latent),), layers=tuple(latent))
