"""Pythae's MIWAE."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import IWAE, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pythae_miwae"]


@needs_extra("pythae")
def pythae_miwae(
    x: Space,
    z: Space,
    m: Annotated[int, Ge(1), "estimates of the bound, averaged: number_gradient_estimates"] = 4,
    k: Annotated[int, Ge(1), "importance samples of each: number_samples"] = 2,
) -> Estimator:
    r"""Importance-weighted bound, averaged over M estimates, by Pythae's ``MIWAE``.

    .. math:: \frac1M \sum_m \log \frac1K \sum_k w_{m,k}

    Its weights sum to one over m, not over k, so that the two numbers trade places.

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not
    Necessarily Better, arXiv:1802.04537.
    """
    from pythae.models import MIWAE, MIWAEConfig

    from vbench_peers.pythae_call import PythaeLoss, peer

    made = peer(MIWAE, MIWAEConfig, x, z, number_samples=k, number_gradient_estimates=m)
    return PythaeLoss(made, IWAE(), k, (m, k))
