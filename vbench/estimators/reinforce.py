"""REINFORCE: the score-function ELBO without a control."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import ELBO
from vbench.estimators.score import Score
from vbench.types import Estimator

__all__ = ["reinforce"]


def reinforce(k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1) -> Estimator:
    r"""ELBO by the plain likelihood-ratio estimator.

    .. math:: \nabla_\phi: \; \tfrac1K \sum_k \log w_k \, \nabla_\phi \log q(z_k | x)

    Unbiased for the ELBO, with the largest variance of all: the reference that every control is measured against.

    Source: Williams (1992), Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning,
    doi:10.1007/BF00992696.
    """
    return Score(ELBO(), k)
