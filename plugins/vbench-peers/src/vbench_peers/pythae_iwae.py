"""Pythae's IWAE."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import IWAE, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pythae_iwae"]


@needs_extra("pythae")
def pythae_iwae(x: Space, z: Space, k: Annotated[int, Ge(1), "importance samples per datum"] = 5) -> Estimator:
    r"""Importance-weighted bound by Pythae's ``IWAE``.

    .. math:: \nabla L_K: \sum_k \tilde w_k \nabla \log w_k, \qquad \tilde w_k = w_k / \textstyle\sum_j w_j

    What it returns as the loss is :math:`-\sum_k \tilde w_k \log w_k`, not the bound.

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519.
    """
    from pythae.models import IWAE as PEER
    from pythae.models import IWAEConfig

    from vbench_peers.pythae_call import PythaeLoss, peer

    return PythaeLoss(peer(PEER, IWAEConfig, x, z, number_samples=k), IWAE(), k, (k,))
