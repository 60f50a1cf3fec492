"""The thermodynamic bound of log weights, and where its integrand is taken."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

__all__ = ["Spacing", "Thermodynamic", "schedule"]

Spacing = Literal["log", "linear"]


def schedule(partitions: int, first: float, spacing: Spacing) -> tuple[float, ...]:
    """Points 0 = b_0 < ... < b_T = 1; logarithmic ones run from ``first``.

    >>> schedule(3, 0.01, "log")
    (0.0, 0.01, 0.1, 1.0)
    >>> schedule(4, 0.01, "linear")
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    if spacing == "linear" or partitions == 1:
        return tuple(t / partitions for t in range(partitions + 1))
    return 0.0, *(first ** (1 - t / (partitions - 1)) for t in range(partitions))


@dataclass(frozen=True)
class Thermodynamic:
    r"""Riemann sum of the thermodynamic integral, its expectations self-normalised.

    .. math:: \sum_{t=0}^{T-1} (\beta_{t+1} - \beta_t) \sum_k \tilde w_{t,k} \log w_k, \qquad
       \tilde w_{t,k} \propto w_k^{\beta_t}

    The integrand never falls in beta, and its integral is the importance-weighted bound of the same K weights: taken at
    the left ends, the sum lies below that bound at every draw; taken at the right ends (``right``), above it.

    Source: Masrani, Le & Wood (2019), The Thermodynamic Variational Objective, arXiv:1907.00031.
    """

    points: tuple[float, ...]
    right: bool = False
    smooth: bool = True

    @property
    def kind(self) -> Literal["lower", "none"]:
        """``lower`` at the left ends; at the right ends none: above a lower bound."""
        return "none" if self.right else "lower"

    @property
    def linear(self) -> bool:
        """True for one partition, which is the ELBO."""
        return len(self.points) == 2 and not self.right

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        total = log_w.new_zeros(log_w.shape[1:])
        for start, end in pairwise(self.points):
            weight = ((end if self.right else start) * log_w).softmax(0)
            total = total + (end - start) * (weight * log_w).sum(0)
        return total
