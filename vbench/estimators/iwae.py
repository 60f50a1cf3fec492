"""The importance-weighted bound by its plain pathwise gradient."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import IWAE
from vbench.estimators.pathwise import Pathwise
from vbench.types import Estimator

__all__ = ["iwae"]


def iwae(k: Annotated[int, Ge(1), "importance samples per datum"] = 5) -> Estimator:
    r"""Importance-weighted bound, reparameterised.

    .. math:: L_K = E \log \tfrac1K \sum_k w_k, \qquad
       \nabla L_K: \sum_k \tilde w_k \nabla \log w_k, \qquad \tilde w_k = w_k / \textstyle\sum_j w_j

    Unbiased for the K-sample bound; the signal-to-noise ratio of the encoder's gradient falls as K grows (Rainforth
    2018).

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519.
    """
    return Pathwise(IWAE(), k)
