"""The variational Renyi bound."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge

from vbench.bounds import Renyi
from vbench.estimators.pathwise import Pathwise
from vbench.types import Estimator

__all__ = ["renyi"]


def renyi(
    alpha: Annotated[
        float | Literal["-inf"],
        "order: 0 is IWAE, 1 the ELBO, -inf VR-max; negative orders lie above the evidence in the limit",
    ] = 0.5,
    k: Annotated[int, Ge(1), "samples per datum"] = 5,
) -> Estimator:
    r"""Variational Renyi bound of any order, reparameterised.

    .. math:: L_\alpha = E \tfrac{1}{1-\alpha} \log \tfrac1K \sum_k w_k^{1-\alpha}, \qquad
       \nabla L_\alpha: \sum_k \tilde w_{\alpha,k} \nabla \log w_k, \qquad \tilde w_{\alpha,k} \propto w_k^{1-\alpha}

    Unbiased for the K-sample bound (which is itself biased for the bound's limit in K). ``alpha: -inf`` is VR-max,
    :math:`E \max_k \log w_k`, whose gradient is that of the sample of largest weight alone. For negative orders no
    finite K is guaranteed to lie on either side of the evidence.

    Source: Li & Turner (2016), Renyi Divergence Variational Inference, arXiv:1602.02311.
    """
    return Pathwise(Renyi(-math.inf if alpha == "-inf" else alpha), k)
