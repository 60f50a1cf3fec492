"""Weight-normalised inference: an encoder whose weights have a fixed length, so that it stays smooth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from vbench import GaussianEncoder, Space

__all__ = ["NormalizedLinear", "WeightNormalizedEncoder"]


class NormalizedLinear(nn.Module):
    """A linear map of which every row of weights has the same length, whatever is learned.

    Args:
        layer: whose weights and biases it starts from.
        norm: the length.
    """

    def __init__(self, layer: nn.Linear, norm: float) -> None:
        super().__init__()
        self.direction, self.bias, self.norm = layer.weight, layer.bias, norm

    def forward(self, v: Tensor) -> Tensor:
        """``[..., inputs] -> [..., outputs]``."""
        return functional.linear(v, self.norm * functional.normalize(self.direction, dim=1), self.bias)


class WeightNormalizedEncoder(GaussianEncoder):
    r"""The Gaussian encoder with weights :math:`w_i = H\, v_i / |v_i|` in every layer, biases free.

    H bounds how fast mean and log scale change with x: a layer of m outputs stretches no distance by more than
    :math:`H \sqrt m`, a small H gives a smooth encoder that fits the training data less. Latents are real,
    ``[latent]``.

    Source: Shu, Bui, Zhao, Kochenderfer & Ermon (2018), Amortized Inference Regularization, arXiv:1805.08913; Salimans
    & Kingma (2016), Weight Normalization, arXiv:1602.07868.
    """

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        norm: Annotated[float, Gt(0), "H, length of the weights of one output"] = 1.0,
    ) -> None:
        super().__init__(x, latent, hidden)
        layers = [NormalizedLinear(layer, norm) if isinstance(layer, nn.Linear) else layer for layer in self.net]
        self.net = nn.Sequential(*layers)
