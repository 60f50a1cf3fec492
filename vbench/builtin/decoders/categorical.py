"""Categorical likelihood of grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vbench.builtin.decoders.levels import level_numbers, masked_sum
from vbench.builtin.nets import Activation, mlp, set_output_bias
from vbench.rng import Rng
from vbench.types import Batch, Decoder, Space, Trait

__all__ = ["CategoricalDecoder", "CategoricalLevels"]


@dataclass(frozen=True)
class CategoricalLevels:
    """Independent variables on evenly spaced levels of [0, 1], each with any probabilities.

    Attributes:
        logits: ``[K, B, *X, levels]``, unnormalised.
    """

    logits: Tensor

    @property
    def levels(self) -> int:
        """How many."""
        return self.logits.shape[-1]

    @property
    def mean(self) -> Tensor:
        """E[x], ``[K, B, *X]``."""
        return self.logits.softmax(-1) @ torch.linspace(0, 1, self.levels).to(self.logits)

    def sample(self, rng: Rng) -> Tensor:
        """One draw of each variable, by the Gumbel maximum."""
        noise = -(-rng.uniform(*self.logits.shape, dtype=self.logits.dtype).log()).log()
        return (self.logits + noise).argmax(-1).to(self.logits.dtype) / (self.levels - 1)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, *X] -> [K, B]``, nats."""
        number = level_numbers(x, self.levels, mask).long().expand(self.logits.shape[:-1])
        return masked_sum(self.logits.log_softmax(-1).gather(-1, number[..., None])[..., 0], mask)


class CategoricalDecoder(Decoder):
    r"""Independent grey pixels, each with a probability for every level.

    :math:`P(x_i = l) = \mathrm{softmax}(\mathrm{net}(z)_i)_l`: nothing is assumed of what levels have to do with each
    other. The net has an output for every level of every pixel; their bias starts at the logarithm of how often each
    was seen in training (one more time than it was), or at zero.

    Source: van den Oord, Kalchbrenner & Kavukcuoglu (2016), Pixel Recurrent Neural Networks, arXiv:1601.06759 (softmax
    pixels).
    """

    needs = frozenset({Trait.data("levels")})

    def __init__(
        self,
        x: Space,
        z: Space,
        data: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        output_bias: Annotated[
            Literal["counts", "zero"], "where the output bias starts: at log counts of training, or at zero"
        ] = "counts",
    ) -> None:
        super().__init__()
        self.shape = (*x.shape, x.levels)
        self.net = mlp(z.size, hidden, x.size * x.levels, activation)
        set_output_bias(self.net[-1], _log_shares(data, x) if output_bias == "counts" else torch.zeros(self.shape))

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> CategoricalLevels:
        """p(x | z) with logits ``[K, B, *X, levels]``."""
        return CategoricalLevels(self.net(z.flatten(2)).unflatten(2, self.shape))


def _log_shares(data: Tensor, x: Space) -> Tensor:
    """Log frequency of each level of each entry, one count added, ``[*X, levels]``."""
    grey = data / 255 if data.dtype == torch.uint8 else data
    number = level_numbers(grey, x.levels).long()
    counts = torch.ones(*x.shape, x.levels)
    counts.scatter_add_(-1, number.movedim(0, -1), torch.ones(*x.shape, len(number)))
    return (counts / counts.sum(-1, keepdim=True)).log()
