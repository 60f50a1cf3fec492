"""Linear-Gaussian likelihood: probabilistic PCA and factor analysis."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from vbench.builtin.decoders.bernoulli import OutputBias
from vbench.builtin.decoders.levels import refuse_levels
from vbench.builtin.nets import set_output_bias
from vbench.families import DiagonalNormal
from vbench.types import Batch, Decoder, Space

__all__ = ["LinearGaussianDecoder"]


class LinearGaussianDecoder(Decoder):
    r"""Linear map with additive Gaussian noise.

    :math:`p(x | z) = N(W z + b, \mathrm{diag}\, s^2)`. With a standard normal prior the evidence is known exactly,
    :math:`N(x; b, W W^T + \mathrm{diag}\, s^2)`.

    Source: Tipping & Bishop (1999), Probabilistic Principal Component Analysis, doi:10.1111/1467-9868.00196.
    """

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        scale: Annotated[float, Gt(0), "initial standard deviation of the noise"] = 1.0,
        noise: Annotated[
            Literal["shared", "diagonal", "fixed"], "one learned scale, one per dimension, or fixed"
        ] = "shared",
        output_bias: Annotated[OutputBias, "where b starts: at the training mean, or at zero"] = "mean",
    ) -> None:
        super().__init__()
        refuse_levels(x)
        self.shape = x.shape
        self.linear = nn.Linear(z.size, x.size)
        set_output_bias(self.linear, mean if output_bias == "mean" else mean.new_zeros(x.size))
        start = torch.full((x.size if noise == "diagonal" else 1,), scale).log()
        self.log_scale = nn.Parameter(start, requires_grad=noise != "fixed")

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> DiagonalNormal:
        """p(x | z) with mean ``[K, B, *X]`` and a scale that broadcasts with it."""
        loc = self.linear(z.flatten(2))
        scale = self.log_scale.exp().expand_as(loc)
        shape = (*z.shape[:2], *self.shape)
        return DiagonalNormal(loc.reshape(shape), scale.reshape(shape))
