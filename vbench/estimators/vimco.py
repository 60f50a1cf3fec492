"""VIMCO: the score-function gradient of the importance-weighted bound."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import IWAE
from vbench.estimators.controls import LeaveOneOut
from vbench.estimators.score import Score
from vbench.types import Estimator

__all__ = ["vimco"]


def vimco(k: Annotated[int, Ge(2), "importance samples per datum"] = 5) -> Estimator:
    r"""Importance-weighted bound by the likelihood ratio, with leave-one-out controls.

    Each sample is held against the geometric mean of the others:

    .. math:: \nabla_\phi: \; \sum_k \big(\hat L - \hat L_{-k}\big) \nabla_\phi \log q(z_k | x)
       + \sum_k \tilde w_k \nabla_\phi \log w_k, \qquad
       \hat L_{-k} = \log \tfrac1K \Big(\textstyle\sum_{j \ne k} w_j + \big(\prod_{j \ne k} w_j\big)^{1/(K-1)}\Big)

    Unbiased for the K-sample bound, for any latents.

    Source: Mnih & Rezende (2016), Variational Inference for Monte Carlo Objectives, arXiv:1602.06725.
    """
    return Score(IWAE(), k, LeaveOneOut())
