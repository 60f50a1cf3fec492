"""Squared maximum mean discrepancy: of samples, and of weighted points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vbench import Atoms

__all__ = ["Kernel", "between_atoms", "kernel", "mmd2"]

Kernel = Literal["imq", "rbf"]


def kernel(x: Tensor, y: Tensor, kind: Kernel, width: float) -> Tensor:
    r"""Kernel of every pair, ``[..., N, D], [..., M, D] -> [..., N, M]``.

    ``imq`` is :math:`C / (C + |x - y|^2)`, ``rbf`` is :math:`\exp(-|x - y|^2 / C)`, with C = 2 D width^2: what two
    draws of a normal of that width are apart, squared and on average.

    Source: Tolstikhin, Bousquet, Gelly & Schoelkopf (2018), Wasserstein Auto-Encoders, arXiv:1711.01558.
    """
    squares = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :] - 2 * x @ y.mT
    scale = 2 * x.shape[-1] * width**2
    squares = squares.clamp(min=0) / scale  # a difference of sums may round below zero
    return 1 / (1 + squares) if kind == "imq" else (-squares).exp()


def _pairs(k: Tensor) -> Tensor:
    """Mean over pairs of different samples, ``[..., N, N] -> [...]``."""
    n = k.shape[-1]
    # no pair in a batch of one, which may be the last of an evaluation: then nothing is added
    return (k.sum((-2, -1)) - k.diagonal(dim1=-2, dim2=-1).sum(-1)) / max(1, n * (n - 1))


def mmd2(x: Tensor, y: Tensor, kind: Kernel, width: float) -> Tensor:
    r"""Unbiased estimate of MMD^2 from samples, ``[..., N, D], [..., M, D] -> [...]``; it may be negative.

    .. math:: \frac{1}{N(N-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{M(M-1)} \sum_{i \ne j} k(y_i, y_j)
       - \frac{2}{NM} \sum_{i,j} k(x_i, y_j)

    Source: Gretton, Borgwardt, Rasch, Schoelkopf & Smola (2012), A Kernel Two-Sample Test, JMLR 13, lemma 6.
    """
    same = _pairs(kernel(x, x, kind, width)) + _pairs(kernel(y, y, kind, width))
    return same - 2 * kernel(x, y, kind, width).mean((-2, -1))


def between_atoms(q: Atoms, p: Atoms, kind: Kernel, width: float) -> Tensor:
    """What :func:`mmd2` estimates with one draw of q for each datum and as many of p, ``[]``."""
    size = q.z.shape[1]
    points, masses = q.z.flatten(2), q.log_mass.exp().expand(-1, size)
    prior, mass = p.z.flatten(2)[:, 0], p.log_mass.exp()[:, 0]
    total = mass @ kernel(prior, prior, kind, width) @ mass
    for i in range(size):
        total = total - 2 / size * (masses[:, i] @ kernel(points[:, i], prior, kind, width) @ mass)
        for j in set(range(size)) - {i}:
            between = kernel(points[:, i], points[:, j], kind, width)
            total = total + masses[:, i] @ between @ masses[:, j] / (size * (size - 1))
    return torch.as_tensor(total)
