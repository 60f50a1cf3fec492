"""Variational mixture of posteriors as a prior."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import Batch, Density, DiagonalNormal, Incompatible, NormalMixture, Prior, Space, Trait
from vbench_priors.memory import Memory
from vbench_priors.posterior_mixture import PosteriorMixture

__all__ = ["VampPrior"]


class VampPrior(Prior):
    r"""A mixture of the encoder's own posteriors at learned pseudo-inputs.

    .. math:: p(z) = \frac1M \sum_m q(z | u_m)

    Pseudo-inputs have the shape of a datum, and of binary data and of data in [0, 1] they stay there, cut off at the
    ends. Latents are whatever the encoder's are; a Gaussian encoder makes this a mixture of Gaussians.

    Log p(z) depends on the pseudo-inputs and, through every q(z | u_m), on the encoder's weights too. Gradients
    belong to the part whose parameters they are of: that of the pseudo-inputs is the prior's, and this second part in
    the encoder's weights is the encoder's, in training, in what the judge is asked and in gradient variance by part.
    Rules that take the score out of q's own log density (``stl``, ``dreg``) leave it where it is.

    Source: Tomczak & Welling (2018), VAE with a VampPrior, arXiv:1705.07120.
    """

    needs = frozenset({Trait.POSTERIOR, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        data: Tensor,
        components: Annotated[int, Ge(1), "M, number of pseudo-inputs"] = 500,
        start: Annotated[Literal["noise", "data"], "where pseudo-inputs start: noise, or training data"] = "noise",
        centre: Annotated[float, "mean of that noise"] = 0.05,
        spread: Annotated[float, Ge(0), "standard deviation of that noise"] = 0.01,
    ) -> None:
        super().__init__()
        if start == "data" and len(data) < components:
            raise Incompatible(f"there are {len(data)} training data for {components} pseudo-inputs to start at")
        noise = centre + spread * torch.randn(components, *x.shape)
        self.inputs = nn.Parameter(Memory(data, components).x if start == "data" else noise)
        self.bounded = x.support in ("binary", "unit")

    def forward(self, batch: Batch | None, model: Any) -> Density:
        """p(z), shared by the batch."""
        inputs = self.inputs.clamp(0, 1) if self.bounded else self.inputs

        def at(some: Tensor) -> Any:
            return model.posterior(Batch(some, torch.arange(len(some), device=some.device)))

        q = at(inputs)
        if isinstance(q, DiagonalNormal) and q.loc.dim() == 2:
            return NormalMixture(q.loc.new_zeros(len(q.loc)), q.loc, q.scale)
        return PosteriorMixture(inputs, at)
