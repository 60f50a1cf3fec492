"""MIWAE: the average of several importance-weighted bounds."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor

from vbench import IWAE, Batch, Estimate, Estimator, Rng, Trait

__all__ = ["MIWAE", "averaged"]


def averaged(bound: Any, log_w: Tensor, m: int) -> Tensor:
    """The bound of each of m groups of samples, averaged: ``[M * K, B] -> [B]``."""
    groups = log_w.unflatten(0, (m, -1)).transpose(0, 1)  # [K, M, B]
    each: Tensor = bound(groups.flatten(1)).reshape(m, -1)
    return each.mean(0)


class MIWAE(Estimator):
    r"""Importance-weighted bound, averaged over M independent estimates.

    .. math:: \frac1M \sum_m \log \frac1K \sum_k w_{m,k}

    Unbiased for the K-sample bound, as ``iwae`` is at the same K: M divides the variance, K sharpens the bound.

    Source: Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not Necessarily
    Better, arXiv:1802.04537.
    """

    needs = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT})
    bound = IWAE()

    def __init__(
        self,
        m: Annotated[int, Ge(1), "estimates of the bound, averaged"] = 4,
        k: Annotated[int, Ge(1), "importance samples of each"] = 4,
    ) -> None:
        super().__init__()
        self.m, self.k = m, k

    @property
    def evaluations(self) -> int:
        """M times K."""
        return self.m * self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``: here they are the same number."""
        draw = model.posterior(batch).draw(rng, self.m * self.k)
        value = averaged(self.bound, model.log_joint(batch, draw.z) - draw.log_q, self.m)
        return Estimate(value.detach(), value)
