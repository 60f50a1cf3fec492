"""Pythae's PIWAE."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pythae_piwae"]


@needs_extra("pythae")
def pythae_piwae(
    x: Space,
    z: Space,
    m: Annotated[int, Ge(1), "groups of samples: number_gradient_estimates"] = 4,
    k: Annotated[int, Ge(1), "importance samples of each: number_samples"] = 2,
) -> Estimator:
    r"""Partially importance-weighted by Pythae's ``PIWAE``, each of its two losses for its own part.

    .. math:: \nabla_\theta \log \frac{1}{MK} \sum_{m,k} w_{m,k}, \qquad
       \nabla_\phi \frac1M \sum_m \log \frac1K \sum_k w_{m,k}

    ``encoder_loss`` is for the encoder, ``decoder_loss`` for decoder and prior. The encoder's weights sum to one over
    m, not over k. One set of draws serves both; the decoder is evaluated once for each loss.

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not
    Necessarily Better, arXiv:1802.04537.
    """
    from pythae.models import PIWAE, PIWAEConfig

    from vbench_peers.pythae_call import peer
    from vbench_peers.pythae_two import TwoLosses

    made = peer(PIWAE, PIWAEConfig, x, z, number_samples=k, number_gradient_estimates=m)
    return TwoLosses(made, m, k)
