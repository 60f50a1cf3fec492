"""CIWAE: between the evidence lower bound and the importance-weighted one."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from vbench import Combined, Estimator, Pathwise

__all__ = ["ciwae"]


def ciwae(
    beta: Annotated[float, Ge(0), Le(1), "share of the ELBO: 1 is the ELBO, 0 is IWAE"] = 0.5,
    k: Annotated[int, Ge(1), "importance samples per datum"] = 5,
) -> Estimator:
    r"""Combination of the ELBO and the importance-weighted bound on the same samples, reparameterised.

    .. math:: \beta\, \frac1K \sum_k \log w_k + (1 - \beta) \log \frac1K \sum_k w_k

    Unbiased for the combined bound at its K.

    Source: Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not Necessarily
    Better, arXiv:1802.04537.
    """
    return Pathwise(Combined(beta), k)
