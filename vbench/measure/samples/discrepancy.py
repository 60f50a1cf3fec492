"""Kernel maximum mean discrepancy of two samples, and its permutation test."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bandwidth", "mmd_squared", "permutation_p"]


def bandwidth(x: Tensor) -> float:
    """Median distance between two rows of ``x [n, D]``; 1 where rows are all but equal."""
    distances = torch.pdist(x)
    middle = float(distances.median()) if len(distances) else 0.0
    return middle or 1.0


def _kernel(x: Tensor, y: Tensor, width: float) -> Tensor:
    return (-torch.cdist(x, y).square() / (2 * width**2)).exp()


def mmd_squared(x: Tensor, y: Tensor, width: float) -> tuple[float, float]:
    r"""Unbiased squared discrepancy of two samples of one size, and its standard error.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} [k(x_i, x_j) + k(y_i, y_j)] - \frac{2}{n^2} \sum_{i, j} k(x_i, y_j),
       \qquad k(a, b) = e^{-|a - b|^2 / 2 s^2}

    Its expectation is zero where both are of one distribution, and it may be negative. The error is the asymptotic one
    of two that differ; where they do not, :func:`permutation_p` is what tells.

    Args:
        x, y: ``[n, D]``, n at least 2.
        width: s.

    Source: Gretton, Borgwardt, Rasch, Schölkopf & Smola (2012), A Kernel Two-Sample Test, JMLR 13.
    """
    n = len(x)
    own, other, across = _kernel(x, x, width), _kernel(y, y, width), _kernel(x, y, width)
    value = _statistic(own.sum() - n, other.sum() - n, across.sum(), n)
    terms = own + other - across - across.mT
    terms.fill_diagonal_(0)
    rows = terms.sum(1) / (n - 1)
    return float(value), 2 * float(rows.std()) / math.sqrt(n)


def _statistic(own: Tensor, other: Tensor, across: Tensor, n: int) -> Tensor:
    """From sums of kernels: of each sample without its diagonal, and across."""
    return (own + other) / (n * (n - 1)) - 2 * across / n**2


def permutation_p(x: Tensor, y: Tensor, width: float, generator: torch.Generator, count: int) -> float:
    """Probability, were both samples of one distribution, of a discrepancy as large: by ``count`` relabellings.

    Args:
        x, y, width: as in :func:`mmd_squared`.
        generator: of the relabellings, on the CPU.
        count: how many; the least p is 1 / (count + 1).

    Source: Gretton et al. (2012), as above.
    """
    n, both = len(x), torch.cat([x, y])
    kernel = _kernel(both, both, width).fill_diagonal_(0)
    first = torch.zeros(count + 1, 2 * n, dtype=kernel.dtype)
    first[0, :n] = 1
    for row in first[1:]:
        row[torch.randperm(2 * n, generator=generator)[:n]] = 1
    second = 1 - first
    left = first @ kernel
    own, across = (left * first).sum(1), (left * second).sum(1)
    other = ((second @ kernel) * second).sum(1)
    found = _statistic(own, other, across, n)
    return float((found[1:] >= found[0]).sum() + 1) / (count + 1)
