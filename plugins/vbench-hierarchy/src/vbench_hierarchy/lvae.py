"""The ladder: what data say and what the prior says, each by its precision."""

from __future__ import annotations

from vbench import DiagonalNormal
from vbench_hierarchy.ladder import Ladder

__all__ = ["LadderEncoder"]


class LadderEncoder(Ladder):
    r"""The posterior of a layer is the product of the prior's step and of a Gaussian that the data give.

    .. math:: q(z_l | z_{l+1}, x) \propto N(z_l; \hat\mu_l(x), \hat\sigma_l^2(x))\, p(z_l | z_{l+1}), \qquad
       q(z_L | x) = N(\hat\mu_L(x), \hat\sigma_L^2(x))

    so that precisions add and means are averaged by them. Latents are stacked, ``[sum latent]``, z_1 first; decoders
    see z_1. The prior's parameters are the posterior's too. Batch normalisation, which the source adds, would tie the
    data of a batch together and is left out; its warm-up is an estimator (``kl-annealing``).

    Source: Sonderby, Raiko, Maaloe, Sonderby & Winther (2016), Ladder Variational Autoencoders, arXiv:1602.02282.
    """

    def top(self, prior: DiagonalNormal, said: DiagonalNormal) -> DiagonalNormal:
        """What the data say, alone."""
        return said

    def blend(self, prior: DiagonalNormal, said: DiagonalNormal) -> DiagonalNormal:
        """Both, by their precisions."""
        own, theirs = said.scale.square().reciprocal(), prior.scale.square().reciprocal()
        precision = own + theirs
        return DiagonalNormal((said.loc * own + prior.loc * theirs) / precision, precision.rsqrt())
