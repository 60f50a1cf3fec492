"""Discretised logistic likelihood of grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from vbench.builtin.decoders.bernoulli import OutputBias
from vbench.builtin.decoders.levels import level_numbers, masked_sum
from vbench.builtin.nets import Activation, mlp, set_output_bias
from vbench.rng import Rng
from vbench.types import Batch, Decoder, Space, Trait

__all__ = ["DiscretizedLogistic", "DiscretizedLogisticDecoder"]


@dataclass(frozen=True)
class DiscretizedLogistic:
    """Independent logistic variables, rounded to the nearest of so many levels of [0, 1].

    Attributes:
        loc, scale: of the logistic, ``[K, B, *X]``.
        levels: how many.
    """

    loc: Tensor
    scale: Tensor
    levels: int

    @property
    def mean(self) -> Tensor:
        """E[x], the shape of ``loc``: the sum over levels of the probability to be at or above each."""
        step = 1 / (self.levels - 1)
        above = torch.zeros_like(self.loc)
        for level in range(1, self.levels):
            above = above + ((self.loc - (level - 0.5) * step) / self.scale).sigmoid()
        return above * step

    def sample(self, rng: Rng) -> Tensor:
        """One draw for each entry of ``loc``."""
        u = rng.uniform(*self.loc.shape, dtype=self.loc.dtype)
        return level_numbers((self.loc + self.scale * u.logit()).clamp(0, 1), self.levels) / (self.levels - 1)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, *X] -> [K, B]``, nats."""
        number = level_numbers(x, self.levels, mask)
        width = 1 / ((self.levels - 1) * self.scale)
        centre = number / (self.levels - 1) - self.loc
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no two near numbers are subtracted
        below = functional.logsigmoid(centre / self.scale + width / 2)
        above = functional.logsigmoid(width / 2 - centre / self.scale)
        first, last = number == 0, number == self.levels - 1
        between = (-(-width).expm1()).log()
        terms = torch.where(last, 0, below) + torch.where(first, 0, above) + torch.where(first | last, 0, between)
        return masked_sum(terms, mask)


class DiscretizedLogisticDecoder(Decoder):
    r"""Independent grey pixels, each a logistic variable rounded to the nearest level.

    .. math:: P(x_i = l) = \sigma\big((l + \tfrac{\delta}{2} - \mu_i) / s_i\big)
       - \sigma\big((l - \tfrac{\delta}{2} - \mu_i) / s_i\big), \qquad \mu, s = \mathrm{net}(z)

    with the levels :math:`l = 0, \delta, 2 \delta, \dots, 1`; the lowest takes all that is below it and the highest all
    above, so that probabilities sum to one. s is a floor plus a softplus.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling (2016), Improving Variational Inference with Inverse
    Autoregressive Flow, arXiv:1606.04934; Salimans, Karpathy, Chen & Kingma (2017), PixelCNN++, arXiv:1701.05517 (the
    ends).
    """

    needs = frozenset({Trait.data("levels")})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        output_bias: Annotated[
            OutputBias, "where the bias of the location starts: at the training mean, or at zero"
        ] = "mean",
        floor: Annotated[float, Gt(0), "smallest scale"] = 0.001,
    ) -> None:
        super().__init__()
        self.shape, self.levels, self.floor = x.shape, x.levels, floor
        self.net = mlp(z.size, hidden, 2 * x.size, activation)
        start = mean.flatten() if output_bias == "mean" else mean.new_zeros(x.size)
        set_output_bias(self.net[-1], torch.cat([start, torch.zeros_like(start)]))

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> DiscretizedLogistic:
        """p(x | z) with parameters ``[K, B, *X]``."""
        loc, raw = self.net(z.flatten(2)).chunk(2, -1)
        shape = (*z.shape[:2], *self.shape)
        return DiscretizedLogistic(
            loc.reshape(shape), (self.floor + functional.softplus(raw)).reshape(shape), self.levels
        )
