"""An even mixture of posteriors of any family."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vbench import Density, Draw, Rng

__all__ = ["PosteriorMixture"]

_BUDGET: Final = 2**22  # scalars of latents scored at a time


@dataclass(frozen=True)
class PosteriorMixture:
    r"""An even mixture of the posteriors at M inputs, :math:`\frac1M \sum_m q(z | u_m)`.

    Attributes:
        inputs: u, ``[M, *X]``.
        at: the posteriors at some inputs.
    """

    inputs: Tensor
    at: Callable[[Tensor], Density]

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ancestral samples ``[K, 1, *Z]``; the choice of the input carries no gradient."""
        count = len(self.inputs)
        chosen = (rng.uniform(k, dtype=torch.float64) * count).long()
        z = self.at(self.inputs[chosen]).draw(rng, 1).z[0][:, None]
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, *Z] -> [K, B]``, nats; M evaluations of the posteriors' density for each."""
        parts, count = self.at(self.inputs), len(self.inputs)
        rows = z.flatten(0, 1)[:, None]  # [K B, 1, *Z]
        size = max(1, _BUDGET // (count * rows[0].numel()))
        scored = [parts.log_prob(some.expand(-1, count, *z.shape[2:])).logsumexp(-1) for some in rows.split(size)]
        return torch.cat(scored).reshape(z.shape[:2]) - math.log(count)
