"""Pythae's VAE."""

from __future__ import annotations

from vbench import ELBO, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pythae_vae"]


@needs_extra("pythae")
def pythae_vae(x: Space, z: Space) -> Estimator:
    r"""ELBO with the KL in closed form by Pythae's ``VAE``, one sample.

    .. math:: \log p(x | z) - \mathrm{KL}(q \| p)

    Pixels are scored from their means, not from logits, so in float32 a pixel whose logit is beyond about 17 has no
    gradient where it is wrong.

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """
    from pythae.models import VAE, VAEConfig

    from vbench_peers.pythae_call import PythaeLoss, peer

    return PythaeLoss(peer(VAE, VAEConfig, x, z), ELBO(), 1, ())
