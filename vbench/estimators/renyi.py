"""The variational Renyi bound."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import Renyi
from vbench.estimators.pathwise import Pathwise
from vbench.types import Estimator

__all__ = ["renyi"]


def renyi(
    alpha: Annotated[float, "order: 0 is IWAE, 1 the ELBO; negative orders lie above the evidence in the limit"] = 0.5,
    k: Annotated[int, Ge(1), "samples per datum"] = 5,
) -> Estimator:
    r"""Variational Renyi bound, reparameterised.

    .. math:: L_\alpha = E \tfrac{1}{1-\alpha} \log \tfrac1K \sum_k w_k^{1-\alpha}, \qquad
       \nabla L_\alpha: \sum_k \tilde w_{\alpha,k} \nabla \log w_k, \qquad \tilde w_{\alpha,k} \propto w_k^{1-\alpha}

    Unbiased for the K-sample bound (which is itself biased for the bound's limit in K).

    Source: Li & Turner (2016), Renyi Divergence Variational Inference, arXiv:1602.02311.
    """
    return Pathwise(Renyi(alpha), k)
