"""Several stochastic layers, generated from the top down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import Activation, Batch, DiagonalNormal, Prior, Space, Trait
from vbench_hierarchy.chain import TOP_DOWN, Chain, NormalNet, widths_of

__all__ = ["HierarchyPrior"]


class HierarchyPrior(Prior):
    r"""A Markov chain of diagonal Gaussians from a standard normal down to the layer next to the data.

    .. math:: p(z) = N(z_L; 0, I)\, p(z_{L-1} | z_L) \cdots p(z_1 | z_2)

    Latents are those of any encoder that stacks layers. Ladder posteriors share its steps. Scales of the steps are a
    floor plus an exponential: where a posterior shares a step that the data do not need, nothing else keeps the scale
    from zero, and single precision ends (z - mu) / sigma, and training, long before.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519; Rezende, Mohamed &
    Wierstra (2014), Stochastic Backpropagation, arXiv:1401.4082 (deep latent Gaussian models).
    """

    offers = frozenset({TOP_DOWN})
    needs = frozenset({Trait.latent("real"), Trait.LAYERS})
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        z: Space,
        hidden: Annotated[
            Sequence[Sequence[Annotated[int, Ge(1)]]], "widths of the hidden layers above each but the last"
        ] = ((100, 100),),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        floor: Annotated[float, Ge(0), "smallest standard deviation of a step"] = 0.001,
    ) -> None:
        super().__init__()
        self.layers = z.layers
        widths = widths_of(hidden, len(z.layers) - 1, f"the steps between {len(z.layers)} layers")
        self.nets = nn.ModuleList(  # the layer next to the data first
            NormalNet(above, wide, size, activation, floor)
            for above, wide, size in zip(z.layers[1:], widths, z.layers[:-1], strict=True)
        )
        self.register_buffer("loc", torch.zeros(1, z.layers[-1]))
        self.register_buffer("scale", torch.ones(1, z.layers[-1]))

    def forward(self, batch: Batch | None, model: Any) -> Chain:
        """p(z), shared by the batch."""
        return Chain(DiagonalNormal(self.loc, self.scale), list(self.nets)[::-1], self.layers, upward=False)
