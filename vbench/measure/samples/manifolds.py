"""Precision and recall of samples: how much of each lies in the manifold of the other."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["precision_recall"]


def precision_recall(samples: Tensor, data: Tensor, neighbors: int) -> tuple[float, float]:
    r"""The share of samples that lie near data, and of data that lie near samples.

    Near means inside a ball around a row of the other set that reaches to its ``neighbors``-th nearest of its own set.

    Args:
        samples, data: ``[n, D]`` and ``[m, D]``.
        neighbors: less than n and m.

    Source: Kynkäänniemi, Karras, Laine, Lehtinen & Aila (2019), Improved Precision and Recall Metric for Assessing
    Generative Models, arXiv:1904.06991.
    """
    return _inside(samples, data, neighbors), _inside(data, samples, neighbors)


def _inside(rows: Tensor, others: Tensor, neighbors: int) -> float:
    own = torch.cdist(others, others)
    own.fill_diagonal_(torch.inf)
    radius = own.kthvalue(neighbors, dim=1).values
    return float((torch.cdist(rows, others) <= radius).any(1).double().mean())
