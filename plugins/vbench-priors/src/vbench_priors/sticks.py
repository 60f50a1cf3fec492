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
    """What weights ``[..., D + 1]`` are made of."""

    log_v: Tensor  # [..., D]
    log_rest: Tensor  # [..., D] log(1 - v)
    log_volume: Tensor  # [...] log of what a volume of shares becomes among the first D weights; NaN of a used-up stick


def weights(log_v: Tensor, log_rest: Tensor) -> Tensor:
    r"""Weights :math:`\pi_k = v_k \prod_{j<k} (1 - v_j)` and what is left at last, ``[..., D] -> [..., D + 1]``."""
    left = log_rest.cumsum(-1)
    none = torch.zeros_like(left[..., :1])
    return _positive((torch.cat([log_v, none], -1) + torch.cat([none, left], -1)).exp())


def shares(z: Tensor) -> Shares:
    """The shares of weights; both logarithms are right to rounding, at either end.

    Where less is left for the last share than the smallest number, other weights stand for those that there were, and
    their density would be none: NaN is told.
    """
    used_up = z[..., -2:].sum(-1) < 4 * torch.finfo(z.dtype).tiny
    z = _positive(z)
    left = z.flip(-1).cumsum(-1).flip(-1)  # each weight with all after it, summed from the smallest on as a rule
    log_left = left.log()
    rest = left[..., 1:] / left[..., :-1]
    most = rest < 0.5
    # v is near one where little is left: by what is left then, so that log v keeps its digits
    log_v = torch.where(most, torch.log1p(-rest.where(most, 0.25)), z[..., :-1].log() - log_left[..., :-1])
    log_volume = log_left[..., :-1].sum(-1).masked_fill(used_up, math.nan)
    return Shares(log_v, log_left[..., 1:] - log_left[..., :-1], log_volume)


def log_complement(log_p: Tensor) -> Tensor:
    """log(1 - p) from log p, for p in (0, 1), right to rounding at both ends."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).tiny)
    near = log_p > -math.log(2)
    of_near = (-torch.expm1(log_p.where(near, -0.5))).log()
    return torch.where(near, of_near, torch.log1p(-log_p.where(~near, -1.0).exp()))


def _positive(z: Tensor) -> Tensor:
    return z.clamp(min=torch.finfo(z.dtype).tiny)


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
        """Two of each share, ``[B, latent]`` both, of any sign; in double precision, which holds long sticks' ends."""
        return self.net(batch.x.flatten(1)).double().chunk(2, -1)
