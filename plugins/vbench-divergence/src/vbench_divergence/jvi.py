"""Jackknife variational inference: the importance-weighted bound with its bias taken off order by order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from vbench import IWAE, Estimator, Pathwise

__all__ = ["Jackknife", "jvi"]


@cache
def _subsets(n: int, size: int) -> Tensor:
    """Every subset of ``size`` of n samples, ``[C, size]``."""
    return torch.tensor(list(combinations(range(n), size)))


@dataclass(frozen=True)
class Jackknife:
    r"""Jackknifed importance-weighted bound of order m.

    .. math:: \sum_{j=0}^m \frac{(-1)^j (K - j)^m}{(m - j)!\, j!}\, \bar L_{K-j}

    where :math:`\bar L_{K-j}` is the mean of the importance-weighted bound over all subsets of K - j samples. Its bias
    for the evidence is O(K^-(m+1)), of either sign: no bound from order 1 on.

    Source: Nowozin (2018), Debiasing Evidence Approximations: On Importance-Weighted Autoencoders and Jackknife
    Variational Inference, ICLR, https://openreview.net/forum?id=HyZoi-WRb.
    """

    order: int
    smooth: bool = True
    linear: bool = False

    @property
    def kind(self) -> Literal["lower", "none"]:
        """``lower`` at order 0, which is IWAE."""
        return "none" if self.order else "lower"

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        n, m = len(log_w), self.order
        if n <= m:
            raise ValueError(f"a jackknife of order {m} needs more than {m} samples, not {n}")
        # the weights below sum to one and are thousands large: what all have in common is left out, or its digits go
        top = log_w.detach().amax(0)
        top = torch.where(top.isfinite(), top, 0.0)
        log_w, total = log_w - top, top
        for j in range(m + 1):
            weight = (-1) ** j * (n - j) ** m / (math.factorial(m - j) * math.factorial(j))
            chosen = log_w[_subsets(n, n - j).to(log_w.device)].transpose(0, 1)  # [K - j, C, B]
            total = total + weight * IWAE()(chosen.flatten(1)).reshape(chosen.shape[1:]).mean(0)
        return total


def jvi(
    order: Annotated[int, Ge(0), Le(3), "m, how many orders of the bias in 1/K are taken off; 0 is IWAE"] = 1,
    k: Annotated[int, Ge(1), "importance samples per datum, more than the order"] = 5,
) -> Estimator:
    r"""Jackknifed importance-weighted bound, reparameterised.

    .. math:: m = 1: \quad K L_K - \frac{K - 1}{K} \sum_k L_{K-1}^{(-k)}

    Unbiased for the K-sample jackknife, which is nearer to the evidence than the importance-weighted bound, and no
    bound. It takes log-mean-exps of all subsets, K choose m of them, but no more decoder evaluations.

    Source: Nowozin (2018), Debiasing Evidence Approximations: On Importance-Weighted Autoencoders and Jackknife
    Variational Inference, ICLR, https://openreview.net/forum?id=HyZoi-WRb.
    """
    if k <= order:
        raise ValueError(f"a jackknife of order {order} needs k of {order + 1} or more, not {k}")
    return Pathwise(Jackknife(order), k)
