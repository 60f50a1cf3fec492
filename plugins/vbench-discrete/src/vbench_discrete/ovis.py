"""OVIS without its correction: VIMCO with nothing in a sample's place."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import IWAE, Batch, Estimator, Score

__all__ = ["Nothing", "ovis"]


class Nothing(nn.Module):
    """A weight of zero, whatever the others are: a stand-in that no rescaling of the weights changes."""

    equivariant = True
    least = 2

    def forward(self, log_w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Stand-ins ``[K, B]`` and no loss ``[B]``."""
        return torch.full_like(log_w, -torch.inf), torch.zeros_like(log_w[0])


def ovis(k: Annotated[int, Ge(2), "importance samples per datum"] = 5) -> Estimator:
    r"""Importance-weighted bound by the likelihood ratio, with the baseline for many samples.

    .. math:: \nabla_\phi: \; \sum_k \Big(\hat L - \log \tfrac1K \textstyle\sum_{j \ne k} w_j\Big)
       \nabla_\phi \log q(z_k | x) + \sum_k \tilde w_k \nabla_\phi \log w_k

    With the direct term merged, the factor of sample k's score is :math:`-\log(1 - \tilde w_k) - \tilde w_k`. This is
    the form for a large effective sample size (gamma = 0). Unbiased for the K-sample bound, for any latents; one
    decoder evaluation a sample. Its variance is often far below VIMCO's, but not always. Value and surrogate are
    ``[B]``, nats.

    Source: Lievin, Dittadi, Christensen & Winther (2020), Optimal Variance Control of the Score-Function Gradient
    Estimator for Importance-Weighted Bounds, arXiv:2008.01998.
    """
    return Score(IWAE(), k, Nothing())
