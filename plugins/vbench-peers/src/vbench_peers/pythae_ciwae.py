"""Pythae's CIWAE."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from vbench import Combined, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pythae_ciwae"]


@needs_extra("pythae")
def pythae_ciwae(
    x: Space,
    z: Space,
    beta: Annotated[float, Ge(0), Le(1), "share of the ELBO: 1 is the ELBO, 0 is IWAE"] = 0.5,
    k: Annotated[int, Ge(1), "importance samples per datum"] = 5,
) -> Estimator:
    r"""Combination of the ELBO and the importance-weighted bound by Pythae's ``CIWAE``.

    .. math:: \beta\, \frac1K \sum_k \log w_k + (1 - \beta) \log \frac1K \sum_k w_k

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not
    Necessarily Better, arXiv:1802.04537.
    """
    from pythae.models import CIWAE, CIWAEConfig

    from vbench_peers.pythae_call import PythaeLoss, peer

    made = peer(CIWAE, CIWAEConfig, x, z, number_samples=k, beta=beta)
    return PythaeLoss(made, Combined(beta), k, (k,))
