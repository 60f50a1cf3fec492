"""The thermodynamic variational objective by the path of its self-normalised estimate."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from vbench import Estimator, Pathwise
from vbench_divergence.thermodynamic import Spacing, Thermodynamic, schedule

__all__ = ["tvo_reparam"]


def tvo_reparam(
    partitions: Annotated[int, Ge(1), "terms of the left Riemann sum; one is the ELBO"] = 5,
    first: Annotated[float, Gt(0), Lt(1), "the first point above zero, where they are spaced logarithmically"] = 0.05,
    spacing: Annotated[Spacing, "of the points in (0, 1]"] = "log",
    k: Annotated[int, Ge(1), "samples per datum"] = 5,
) -> Estimator:
    r"""Thermodynamic variational objective, reparameterised: the gradient of its self-normalised estimate.

    .. math:: \nabla \sum_{t=0}^{T-1} (\beta_{t+1} - \beta_t) \sum_k \tilde w_{t,k} \log w_k, \qquad
       \tilde w_{t,k} \propto w_k^{\beta_t}, \quad z_k = g(\epsilon_k, x)

    Unbiased for the K-sample bound, which lies below the importance-weighted bound of the same weights at every draw.

    Source: Masrani, Le & Wood (2019), The Thermodynamic Variational Objective, arXiv:1907.00031 (the objective);
    Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114 (the rule).
    """
    return Pathwise(Thermodynamic(schedule(partitions, first, spacing)), k)
