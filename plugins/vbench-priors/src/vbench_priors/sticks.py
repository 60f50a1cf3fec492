"""Weights that sum to one, as shares: each takes its share of what those before it have left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Activation, Batch, Encoder, Space, Trait, mlp

__all__ = ["Shares", "SharesEncoder", "log_complement", "shares", "weights"]


class Shares(NamedTuple):
    """What weights ``[..., D + 1]`` are made of.

    A share at an end is a lump with all the mass beyond, and after the stick was broken for the last time there are
    none: without both, weights that a precision cannot hold would be taken for others, whose density is none.
    """

    log_v: Tensor  # [..., D]; that of one half where there is no share, or a lump
    log_rest: Tensor  # [..., D] log(1 - v)
    log_volume: Tensor  # [...] log of what a volume of shares becomes among the first D weights
    low: Tensor  # [..., D] whether the share is the lump at 0
    high: Tensor  # [..., D] or that at 1
    broken: Tensor  # [..., D] whether there is a share at all
    end: float  # log odds of a share beyond which the lumps are

    def log_density(self, inside: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Of the weights ``[...]``, nats, by the volume of the first D of them.

        Args:
            inside: log density of each share at ``log_v``, ``[..., D]``.
            low: log probability that its log odds are below ``-end``.
            high: that they are above ``end``.
        """
        each = torch.where(self.low, low, torch.where(self.high, high, inside))
        return torch.where(self.broken, each, 0.0).sum(-1) - self.log_volume


def weights(log_v: Tensor, log_rest: Tensor) -> Tensor:
    r"""Weights :math:`\pi_k = v_k \prod_{j<k} (1 - v_j)` and what is left at last, ``[..., D] -> [..., D + 1]``.

    Once less is left than the fourth root of the smallest number (3e-10 in single precision) the last weight takes it,
    and those between are 0.
    """
    odds, (cut, end) = log_v - log_rest, _limits(log_v.dtype)
    low, high = odds < -end, odds > end
    beyond = -end - 0.5  # away from the border, where rounding cannot bring it back
    log_v = torch.where(low, beyond, torch.where(high, 0.0, log_v))
    log_rest = torch.where(high, beyond, torch.where(low, 0.0, log_rest))
    left = torch.cat([torch.zeros_like(log_rest[..., :1]), log_rest.cumsum(-1)], -1)
    broken = left[..., :-1] >= cut
    last = left.gather(-1, broken.sum(-1, keepdim=True))
    return torch.cat([torch.where(broken, (log_v + left[..., :-1]).exp(), 0.0), last.exp()], -1)


def shares(z: Tensor) -> Shares:
    """The shares of weights; both logarithms are right to rounding, at either end."""
    broken = z[..., :-1].flip(-1).cumsum(-1).flip(-1) > 0
    z = z.clamp(min=torch.finfo(z.dtype).tiny)
    left = z.flip(-1).cumsum(-1).flip(-1)  # each weight with all after it, summed from the smallest on as a rule
    log_left = left.log()
    rest = left[..., 1:] / left[..., :-1]
    most = rest < 0.5
    # v is near one where little is left: by what is left then, so that log v keeps its digits
    log_v = torch.where(most, torch.log1p(-rest.where(most, 0.25)), z[..., :-1].log() - log_left[..., :-1])
    log_rest = log_left[..., 1:] - log_left[..., :-1]
    odds, (_, end) = (log_v - log_rest).detach(), _limits(z.dtype)
    low, high = broken & (odds < -end), broken & (odds > end)
    inside = broken & ~low & ~high
    half = -math.log(2)
    log_volume = torch.where(inside, log_left[..., :-1], 0.0).sum(-1)
    log_v, log_rest = (torch.where(inside, log, half) for log in (log_v, log_rest))
    return Shares(log_v, log_rest, log_volume, low, high, broken, end)


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    """Log of what must be left for the stick to be broken, and where shares end: their product is a number yet."""
    room = -math.log(torch.finfo(dtype).tiny)
    return -room / 4, 0.75 * room - 1


def log_complement(log_p: Tensor) -> Tensor:
    """log(1 - p) from log p, for p in (0, 1), right to rounding at both ends."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).tiny)
    near = log_p > -math.log(2)
    of_near = (-torch.expm1(log_p.where(near, -0.5))).log()
    return torch.where(near, of_near, torch.log1p(-log_p.where(~near, -1.0).exp()))


class SharesEncoder(Encoder):
    """What encoders of independent shares have in common: one net that gives two parameters of each."""

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of shares"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = Space((latent + 1,), "simplex")
        self.net = mlp(x.size, hidden, 2 * latent, activation)

    def parameters_of(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two of each share, ``[B, latent]`` both, of any sign."""
        return self.net(batch.x.flatten(1)).chunk(2, -1)
