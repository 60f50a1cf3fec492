"""A posterior told relative to the prior's steps."""

from __future__ import annotations

from vbench import DiagonalNormal
from vbench_hierarchy.ladder import Ladder

__all__ = ["TopDownEncoder"]


class TopDownEncoder(Ladder):
    r"""The posterior of a layer is the prior's step, shifted and stretched by the data.

    .. math:: p(z_l | z_{l+1}) = N(\mu, \sigma^2), \qquad
       q(z_l | z_{l+1}, x) = N(\mu + \Delta\mu_l(x),\, \sigma^2 \Delta\sigma_l^2(x))

    Where the data say nothing (0 and 1) a layer costs nothing, whatever the prior does. Latents are stacked,
    ``[sum latent]``, z_1 first; decoders see z_1. The prior's parameters are the posterior's too.

    Source: Vahdat & Kautz (2020), NVAE: A Deep Hierarchical Variational Autoencoder, arXiv:2007.03898, section 3.2
    (where shift and stretch may depend on the layers above, too).
    """

    def blend(self, prior: DiagonalNormal, said: DiagonalNormal) -> DiagonalNormal:
        """The prior's step, moved."""
        return DiagonalNormal(prior.loc + said.loc, prior.scale * said.scale)
