"""The encoder of a diffusion model: nothing to learn, noise is added."""

from __future__ import annotations

import functools
import itertools
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor

from vbench import Batch, DiagonalNormal, Encoder, Space, Trait
from vbench_hierarchy.chain import Chain
from vbench_hierarchy.schedule import DENOISER, DIFFUSED, alpha_sigma, between

__all__ = ["VDMEncoder"]


class VDMEncoder(Encoder):
    r"""T + 1 layers as wide as the data, each the one below with more noise; no parameter of its own.

    .. math:: q(z_0 | x) = N(\alpha_0 x, \sigma_0^2 I), \qquad
       q(z_t | z_s) = N\Big(\frac{\alpha_t}{\alpha_s} z_s,\, \sigma_t^2 (1 - e^{\gamma_s - \gamma_t}) I\Big)

    so that :math:`q(z_t | x) = N(\alpha_t x, \sigma_t^2 I)` with :math:`\alpha^2 + \sigma^2 = 1`, as the prior's
    schedule says. Binary data and data in [0, 1] are taken from -1 to 1. Latents are stacked, ``[(T + 1) X]``, the
    clearest first; decoders see that one.

    Source: Kingma, Salimans, Poole & Ho (2021), Variational Diffusion Models, arXiv:2107.00630.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED, DIFFUSED})
    needs = frozenset({DENOISER, Trait.INDEPENDENT_PRIOR})

    def __init__(self, x: Space, steps: Annotated[int, Ge(1), "T, steps of the diffusion"] = 20) -> None:
        super().__init__()
        layers = (x.size,) * (steps + 1)
        self.z = Space((sum(layers),), layers=layers)
        self.real = x.support == "real"

    def signal(self, batch: Batch) -> Tensor:
        """The data as numbers around zero, ``[B, X]``."""
        x = batch.x.flatten(1)
        return x if self.real else 2 * x - 1

    def forward(self, batch: Batch, model: Any) -> Chain:
        """q(z | x)."""
        gamma = model.prior.schedule()
        alpha, sigma = alpha_sigma(gamma[0])
        first = DiagonalNormal(alpha * self.signal(batch), sigma)
        rest = [functools.partial(_noisier, s, t) for s, t in itertools.pairwise(gamma.unbind())]
        return Chain(first, rest, self.z.layers, upward=True)


def _noisier(s: Tensor, t: Tensor, z: Tensor) -> DiagonalNormal:
    """q(z_t | z_s)."""
    ratio, share = between(s, t)
    return DiagonalNormal(ratio * z, (t.sigmoid() * share).sqrt())
