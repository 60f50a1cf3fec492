"""VIMCO with the arithmetic mean of the others in a sample's place."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import IWAE, Batch, Estimator, Score

__all__ = ["ArithmeticMean", "vimco_arithmetic"]


class ArithmeticMean(nn.Module):
    """The log of the mean of the other samples' weights, ``log sum_{j != k} w_j / (K - 1)``; needs K >= 2."""

    equivariant = True
    least = 2

    def forward(self, log_w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Stand-ins ``[K, B]`` and no loss ``[B]``."""
        own = torch.eye(log_w.shape[0], dtype=torch.bool, device=log_w.device)[..., None]
        others = torch.where(own, -torch.inf, log_w[None]).logsumexp(1) - math.log(log_w.shape[0] - 1)
        return others, torch.zeros_like(log_w[0])


def vimco_arithmetic(k: Annotated[int, Ge(2), "importance samples per datum"] = 5) -> Estimator:
    r"""Importance-weighted bound by the likelihood ratio, each sample against the others' bound.

    .. math:: \nabla_\phi: \; \sum_k \big(\hat L - \hat L_{-k}\big) \nabla_\phi \log q(z_k | x)
       + \sum_k \tilde w_k \nabla_\phi \log w_k, \qquad
       \hat L_{-k} = \log \tfrac{1}{K - 1} \textstyle\sum_{j \ne k} w_j

    which is :math:`\hat L` with :math:`w_k` replaced by the arithmetic mean of the others. Unbiased for the K-sample
    bound, for any latents; one decoder evaluation a sample. Value and surrogate are ``[B]``, nats.

    Source: Mnih & Rezende (2016), Variational Inference for Monte Carlo Objectives, arXiv:1602.06725.
    """
    return Score(IWAE(), k, ArithmeticMean())
