"""Sticking the landing: the ELBO's pathwise gradient without its score term."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import ELBO
from vbench.estimators.doubly import DoublyReparameterized
from vbench.types import Estimator

__all__ = ["stl"]


def stl(k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1) -> Estimator:
    r"""ELBO by the path through z alone, which has zero variance where q is the posterior.

    .. math:: \nabla_\phi\, \tfrac1K \sum_k \log p(x, z_k) - \log q_{\bar\phi}(z_k | x), \qquad
       \bar\phi \text{ held fixed}

    Unbiased for the ELBO.

    Source: Roeder, Wu & Duvenaud (2017), Sticking the Landing: Simple, Lower-Variance Gradient Estimators for
    Variational Inference, arXiv:1703.09194.
    """
    return DoublyReparameterized(ELBO(), k)
