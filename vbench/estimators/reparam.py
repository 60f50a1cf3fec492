"""The reparameterised ELBO."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge

from vbench.bounds import ELBO
from vbench.estimators.pathwise import AnalyticKL, Pathwise
from vbench.types import Estimator

__all__ = ["reparam"]


def reparam(
    k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    kl: Annotated[
        Literal["sampled", "analytic"], "estimate KL(q || p) by the same draws, or in closed form"
    ] = "sampled",
) -> Estimator:
    r"""ELBO by the reparameterisation trick.

    .. math:: \nabla\, \tfrac1K \sum_k \log p(x, z_k) - \log q(z_k | x), \qquad z_k = g(\epsilon_k, x)

    Unbiased for the ELBO. ``kl: analytic`` replaces the sampled KL by its closed form: same estimand, other variance.

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """
    return Pathwise(ELBO(), k) if kl == "sampled" else AnalyticKL(k)
