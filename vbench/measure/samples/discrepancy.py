"""Kernel maximum mean discrepancy of two samples, and its permutation test."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bandwidth", "mmd_squared", "permutation_p", "pooled_kernel"]


def bandwidth(x: Tensor) -> float:
    """Median distance between two rows of ``x [n, D]``; 1 where rows are all but equal."""
    distances = torch.pdist(x)
    middle = float(distances.median()) if len(distances) else 0.0
    return middle or 1.0


def pooled_kernel(x: Tensor, y: Tensor, width: float) -> Tensor:
    r"""Of every two rows of ``x`` and ``y``, ``[n, D]`` each: ``[2 n, 2 n]``, zero on the diagonal.

    .. math:: k(a, b) = e^{-|a - b|^2 / 2 s^2}
    """
    both = torch.cat([x, y])
    return (-torch.cdist(both, both).square() / (2 * width**2)).exp().fill_diagonal_(0)


def mmd_squared(kernel: Tensor) -> tuple[float, float]:
    r"""Unbiased squared discrepancy of two samples of one size, and its standard error.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} [k(x_i, x_j) + k(y_i, y_j)] - \frac{2}{n^2} \sum_{i, j} k(x_i, y_j)

    Its expectation is zero where both are of one distribution, and it may be negative. The error is the asymptotic one
    of two that differ; where they do not, :func:`permutation_p` is what tells.

    Args:
        kernel: of :func:`pooled_kernel`, n at least 2.

    Source: Gretton, Borgwardt, Rasch, Schölkopf & Smola (2012), A Kernel Two-Sample Test, JMLR 13.
    """
    n = len(kernel) // 2
    own, other, across = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    value = _statistic(own.sum(), other.sum(), across.sum(), n)
    terms = own + other - across - across.mT
    terms.fill_diagonal_(0)
    rows = terms.sum(1) / (n - 1)
    return float(value), 2 * float(rows.std()) / math.sqrt(n)


def _statistic(own: Tensor, other: Tensor, across: Tensor, n: int) -> Tensor:
    """From sums of kernels: of each sample without its diagonal, and across."""
    return (own + other) / (n * (n - 1)) - 2 * across / n**2


def permutation_p(kernel: Tensor, generator: torch.Generator, count: int) -> float:
    """Probability, were both samples of one distribution, of a discrepancy as large: by ``count`` relabellings.

    Args:
        kernel: of :func:`pooled_kernel`.
        generator: of the relabellings, on the CPU.
        count: how many; the least p is 1 / (count + 1).

    Source: Gretton et al. (2012), as above.
    """
    n = len(kernel) // 2
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
