"""Stochastic volatility: log variances that wander, and returns of that variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from vbench import Batch, DiagonalNormal, Incompatible, Space, State, StepDecoder, StepPrior, Trait
from vbench_sequence.parts import latent_size, width

__all__ = ["StochasticVolatilityDecoder", "StochasticVolatilityPrior"]


class StochasticVolatilityPrior(StepPrior):
    r"""Log variances as stationary autoregressions of order one, independent of each other.

    :math:`z_t = \mu + \phi (z_{t-1} - \mu) + \sigma \epsilon_t` with :math:`|\phi| < 1`, started from its stationary
    law :math:`N(\mu, \sigma^2 / (1 - \phi^2))`.

    Source: Naesseth, Linderman, Ranganath & Blei (2018), Variational Sequential Monte Carlo, arXiv:1705.11140,
    section 4.2; Chib, Omori & Asai (2009), Multivariate Stochastic Volatility, doi:10.1007/978-3-540-71297-8_16.
    """

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.z = z
        size = latent_size(z)
        self.loc = nn.Parameter(torch.zeros(size))
        self.raw_phi = nn.Parameter(torch.full((size,), 1.5))  # phi = .91
        self.log_scale = nn.Parameter(torch.full((size,), -1.0))

    def start(self, k: int, batch: Batch | None) -> State:
        """Mean and scale of the stationary law."""
        shape = k, 1 if batch is None else len(batch.x), -1
        # 1 - tanh^2 by its logarithm: near 1 the difference has no digits left
        log_share = math.log(4) + logsigmoid(2 * self.raw_phi) + logsigmoid(-2 * self.raw_phi)
        scale = (self.log_scale - 0.5 * log_share).exp()
        return self.loc.expand(shape), scale.expand(shape)

    def transition(self, state: State, batch: Batch | None) -> DiagonalNormal:
        """p(z_t | z_t-1)."""
        return DiagonalNormal(*state)

    def advance(self, state: State, z: Tensor, x: Tensor | None, batch: Batch | None) -> State:
        """Mean and scale of the next log variance."""
        return self.loc + self.raw_phi.tanh() * (z - self.loc), self.log_scale.exp().expand_as(z)


class StochasticVolatilityDecoder(StepDecoder):
    r"""Returns whose log variance is the latent, one latent for each of them.

    :math:`x_t \sim N(0, \mathrm{diag}\, \beta^2 e^{z_t})`; :math:`\log\beta` starts at zero.

    Source: Naesseth, Linderman, Ranganath & Blei (2018), Variational Sequential Monte Carlo, arXiv:1705.11140,
    section 4.2.
    """

    needs = StepDecoder.needs | {Trait.data("real")}

    def __init__(self, x: Space, z: Space) -> None:
        super().__init__()
        if latent_size(z) != width(x):
            raise Incompatible(f"{width(x)} returns need as many latents a step, not {latent_size(z)}")
        self.shape = x.shape[1:]
        self.log_beta = nn.Parameter(torch.zeros(width(x)))

    def emit(self, z: Tensor, seen: Tensor, batch: Batch | None) -> DiagonalNormal:
        """p(x_t | z_t), parameters ``[K, B, *X]``."""
        scale = (self.log_beta + z / 2).exp().unflatten(-1, self.shape)
        return DiagonalNormal(torch.zeros_like(scale), scale)
