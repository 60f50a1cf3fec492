"""RLOO: the score-function ELBO with the other samples as baseline."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import ELBO
from vbench.estimators.controls import LeaveOneOut
from vbench.estimators.score import Score
from vbench.types import Estimator

__all__ = ["rloo"]


def rloo(k: Annotated[int, Ge(2), "samples per datum, averaged"] = 4) -> Estimator:
    r"""ELBO by the likelihood ratio with a leave-one-out baseline.

    .. math:: \nabla_\phi: \; \tfrac1K \sum_k \Big(\log w_k - \tfrac{1}{K-1} \sum_{j \ne k} \log w_j\Big)
       \nabla_\phi \log q(z_k | x)

    Unbiased for the ELBO, also with an unnormalised density.

    Source: Kool, van Hoof & Welling (2019), Buy 4 REINFORCE Samples, Get a Baseline for Free!, ICLR workshop on Deep
    Reinforcement Learning Meets Structured Prediction; Salimans & Knowles (2014), On Using Control
    Variates with Stochastic Approximation for Variational Bayes and its Connection to Stochastic Linear Regression,
    arXiv:1401.1022.
    """
    return Score(ELBO(), k, LeaveOneOut())
