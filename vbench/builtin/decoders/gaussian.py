"""Diagonal Gaussian likelihood from a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from vbench.builtin.decoders.bernoulli import OutputBias
from vbench.builtin.decoders.levels import refuse_levels
from vbench.builtin.nets import Activation, mlp, set_output_bias
from vbench.families import DiagonalNormal
from vbench.types import Batch, Decoder, Space

__all__ = ["GaussianDecoder"]


class GaussianDecoder(Decoder):
    r"""Independent Gaussian pixels, mean and variance from one net.

    :math:`p(x | z) = N(\mu(z), \mathrm{diag}\, \sigma^2(z))`, :math:`\sigma = \text{floor} + \mathrm{softplus}(\cdot)`.
    Without the floor the density of repeated values is unbounded, so its choice is part of any number in nats. Grey
    levels have to be dequantised first (``binarization=dequantized``).

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114, appendix C.2.
    """

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        output_bias: Annotated[
            OutputBias, "where the bias of the mean starts: at the training mean, or at zero"
        ] = "mean",
        floor: Annotated[float, Gt(0), "smallest standard deviation"] = 0.01,
    ) -> None:
        super().__init__()
        refuse_levels(x)
        self.shape, self.floor = x.shape, floor
        self.net = mlp(z.size, hidden, 2 * x.size, activation)
        start = mean.flatten() if output_bias == "mean" else mean.new_zeros(x.size)
        set_output_bias(self.net[-1], torch.cat([start, torch.zeros_like(start)]))

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> DiagonalNormal:
        """p(x | z) with parameters ``[K, B, *X]``."""
        loc, raw = self.net(z.flatten(2)).chunk(2, -1)
        scale = self.floor + functional.softplus(raw)
        shape = (*z.shape[:2], *self.shape)
        return DiagonalNormal(loc.reshape(shape), scale.reshape(shape))
