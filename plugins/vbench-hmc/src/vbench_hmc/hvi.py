"""Hamiltonian variational inference: momentum, leapfrog, and a learned reverse model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import nn

from vbench import Activation, Batch, DiagonalNormal, Draw, Encoder, GaussianEncoder, Rng, Space, Trait
from vbench.dynamics import field, leapfrog
from vbench_hmc.reverse import ReverseModel

__all__ = ["HVI"]


class HVI(Encoder):
    r"""A Gaussian guess moved by Hamiltonian dynamics, the momenta scored by a reverse model.

    From :math:`z_0 \sim q(z_0 | x)`, for T updates: draw :math:`v' \sim N(0, M)`, run L leapfrog steps
    :math:`(z_t, v_t) = \Phi(z_{t-1}, v'_t)` under :math:`\log p(x, z)`, and

    .. math:: \log w = \log p(x, z_T) - \log q(z_0 | x)
       + \sum_t \big( \log r_t(v_t | x, z_t) - \log N(v'_t; 0, M) \big)

    Leapfrog keeps volume, so the weight is proper whatever r, step size and mass are; there is no accept step. The
    density of z alone is unknown: pathwise gradients only. Trained by second derivatives of log p. Draws ``[K, B,
    latent]``; each costs T L + 1 evaluations of the decoder with their
    derivatives.

    Step sizes (one for each update), the diagonal mass M and the reverse models are parameters of the encoder.

    Source: Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference: Bridging the Gap,
    arXiv:1410.6460.
    """

    offers = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        updates: Annotated[int, Ge(1), "momentum draws, each with its reverse model"] = 1,
        leapfrog: Annotated[int, Ge(1), "leapfrog steps after each"] = 4,
        step: Annotated[float, Gt(0), "initial step size"] = 0.1,
        reverse_hidden: Annotated[int, Ge(1), "width of the reverse models' hidden layer"] = 200,
    ) -> None:
        super().__init__()
        self.z, self.leapfrog = Space((latent,)), leapfrog
        self.initial = GaussianEncoder(x, latent, hidden, activation)
        self.reverse = nn.ModuleList(ReverseModel(x, latent, reverse_hidden) for _ in range(updates))
        self.log_step = nn.Parameter(torch.full((updates,), math.log(step)))
        self.log_mass = nn.Parameter(torch.zeros(latent))

    def forward(self, batch: Batch, model: Any) -> _Trajectory:
        """q(z | x), known by its draws."""
        return _Trajectory(self, batch, model, self.initial(batch, model))


@dataclass(frozen=True)
class _Trajectory:
    encoder: HVI
    batch: Batch
    model: Any
    initial: DiagonalNormal

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ends of trajectories ``[K, B, latent]``, differentiable in everything, with their denominators."""
        encoder = self.encoder
        at = field(lambda z: self.model.log_joint(self.batch, z))
        z, log_q, _ = self.initial.draw(rng, k)
        mass = encoder.log_mass.exp()
        momentum = DiagonalNormal(torch.zeros_like(self.initial.loc), mass.sqrt().expand_as(self.initial.loc))
        point = at(z)
        for log_step, reverse in zip(encoder.log_step, encoder.reverse, strict=True):
            v, log_v, _ = momentum.draw(rng, k)
            point, v = leapfrog(at, point, v, log_step.exp(), encoder.leapfrog, mass)
            # in units of the momentum's own scale
            log_r = reverse(self.batch.x, point.z).log_prob(v / mass.sqrt()) - 0.5 * encoder.log_mass.sum()
            log_q = log_q + log_v - log_r
        return Draw(point.z, log_q)
