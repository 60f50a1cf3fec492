"""The prior of a diffusion model: a net that tells the noise, step by step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Activation, Batch, DiagonalNormal, Incompatible, Prior, Space, Trait, mlp
from vbench_hierarchy.chain import Chain
from vbench_hierarchy.schedule import DENOISER, Schedule, between

__all__ = ["VDMPrior"]


class VDMPrior(Prior):
    r"""From pure noise down to a signal nearly clear, each step by what a net takes for the noise.

    .. math:: p(z_1) = N(0, I), \qquad p(z_s | z_t) = N\Big(\frac{\alpha_s}{\alpha_t}
       \big(z_t - \sigma_t (1 - e^{\gamma_s - \gamma_t})\, \hat\epsilon(z_t; \gamma_t)\big),\,
       \sigma_s^2 (1 - e^{\gamma_s - \gamma_t}) I\Big)

    which is q(z_s | z_t, x) with the data that :math:`\hat\epsilon` implies for x. Here :math:`\hat\epsilon =
    \sigma_t z_t + \mathrm{net}(z_t, \gamma_t)`: without the net, what is best for standard normal data. Layers are as
    many and as wide as the encoder ``vdm`` makes them. The schedule is part of this prior, and the encoder is made of
    it: with T steps it moves the bound, and is trained by it.

    Source: Kingma, Salimans, Poole & Ho (2021), Variational Diffusion Models, arXiv:2107.00630 (with one free rise for
    each step in place of a monotone net).
    """

    offers = frozenset({DENOISER})
    needs = frozenset({Trait.latent("real"), Trait.LAYERS})

    def __init__(
        self,
        z: Space,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the net's hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        schedule: Annotated[Literal["learned", "linear"], "whether noise rises as trained, or evenly"] = "learned",
        low: Annotated[float, "gamma of the clearest layer, log noise-to-signal; where it starts"] = -3.0,
        high: Annotated[float, "gamma of the noisiest layer; where it starts"] = 3.0,
    ) -> None:
        super().__init__()
        if len(z.layers) < 2 or len(set(z.layers)) > 1:
            raise Incompatible(f"a diffusion has layers as wide as each other, not {list(z.layers)}")
        if low >= high:
            raise Incompatible(f"noise rises: low must be below high, not {low} and {high}")
        self.layers, self.middle, self.half = z.layers, (low + high) / 2, (high - low) / 2
        self.schedule = Schedule(len(z.layers) - 1, low, high, schedule == "learned")
        self.net = mlp(z.layers[0] + 1, hidden, z.layers[0], activation)

    def noise(self, z: Tensor, gamma: Tensor) -> Tensor:
        """What is taken for the noise in ``z [..., X]`` at ``gamma [...]``, or one gamma for all."""
        level = ((gamma - self.middle) / self.half).expand(z.shape[:-1])[..., None]
        return gamma.sigmoid().sqrt().expand(z.shape[:-1])[..., None] * z + self.net(torch.cat([z, level], -1))

    def forward(self, batch: Batch | None, model: Any) -> Chain:
        """p(z), shared by the batch."""
        gamma = self.schedule()
        pairs = list(itertools.pairwise(gamma.unbind()))[::-1]
        zero = gamma.new_zeros(1, self.layers[0])
        rest = [functools.partial(self._clearer, s, t) for s, t in pairs]
        return Chain(DiagonalNormal(zero, torch.ones_like(zero)), rest, self.layers, upward=False)

    def _clearer(self, s: Tensor, t: Tensor, z: Tensor) -> DiagonalNormal:
        """p(z_s | z_t)."""
        ratio, share = between(s, t)
        loc = (z - t.sigmoid().sqrt() * share * self.noise(z, t)) / ratio
        return DiagonalNormal(loc, (s.sigmoid() * share).sqrt())
