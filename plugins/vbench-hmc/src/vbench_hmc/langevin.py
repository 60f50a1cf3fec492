"""Unadjusted Langevin dynamics as an auxiliary posterior, run backwards by a reverse model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from vbench import Activation, Batch, DiagonalNormal, Draw, Encoder, GaussianEncoder, Rng, Space, Trait
from vbench.dynamics import field
from vbench_hmc.reverse import ReverseModel

__all__ = ["Langevin"]


class Langevin(Encoder):
    r"""A Gaussian guess moved uphill with noise, weighed by the way back.

    For t from 1 to T, with :math:`m_t(z) = z + \tfrac{\epsilon_t^2}{2} \nabla \log \pi_t(z)`,

    .. math:: z_t \sim N(m_t(z_{t-1}), \epsilon_t^2), \qquad
       r_t(z_{t-1} | x, z_t) = N\big(m_t(z_t) + \epsilon_t \mu_t(x, z_t),\; \epsilon_t^2 \sigma_t^2(x, z_t)\big)

    .. math:: \log w = \log p(x, z_T) - \log q(z_0 | x)
       + \sum_t \big( \log r_t(z_{t-1} | x, z_t) - \log N(z_t; m_t(z_{t-1}), \epsilon_t^2) \big)

    proper whatever :math:`\epsilon, \mu, \sigma` are. With :math:`\mu = 0, \sigma = 1`, as it starts, the way back is
    the same dynamics. :math:`\pi_t` is p(x, z), when a step is one leapfrog step of ``hvi``; or, ``annealed``,
    :math:`q^{1 - \beta_t} p^{\beta_t}` with learned :math:`\beta_t` that rise to one. Pathwise gradients only, by
    second derivatives of log p. Draws ``[K, B, latent]``; each costs T + 1 evaluations of the decoder with their
    derivatives (2 T where it is annealed).

    Step sizes (one for each step and latent), :math:`\beta` and the reverse models are parameters.

    Source: Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference: Bridging the Gap,
    arXiv:1410.6460; Thin et al. (2021), Monte Carlo Variational Auto-Encoders, arXiv:2106.15921 (annealed).
    """

    offers = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        steps: Annotated[int, Ge(1), "Langevin steps, each with its reverse model"] = 2,
        step: Annotated[float, Gt(0), "initial step size"] = 0.1,
        annealed: Annotated[bool, "whether targets lead from q to p"] = False,
        reverse_hidden: Annotated[int, Ge(1), "width of the reverse models' hidden layer"] = 200,
    ) -> None:
        super().__init__()
        self.z = Space((latent,))
        self.initial = GaussianEncoder(x, latent, hidden, activation)
        self.reverse = nn.ModuleList(ReverseModel(x, latent, reverse_hidden) for _ in range(steps))
        self.log_step = nn.Parameter(torch.full((steps, latent), math.log(step)))
        self.raw_beta = nn.Parameter(torch.zeros(steps)) if annealed else None

    def betas(self) -> Tensor | None:
        """How far each step's target is on the way from q to p, ``[T]``; None where it is p from the start."""
        return None if self.raw_beta is None else self.raw_beta.softmax(0).cumsum(0)

    def forward(self, batch: Batch, model: Any) -> _Chain:
        """q(z | x), known by its draws."""
        return _Chain(self, batch, model, self.initial(batch, model))


@dataclass(frozen=True)
class _Chain:
    encoder: Langevin
    batch: Batch
    model: Any
    initial: DiagonalNormal

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ends of chains ``[K, B, latent]``, differentiable in everything, with their denominators."""
        encoder, betas = self.encoder, self.encoder.betas()
        standard = DiagonalNormal(torch.zeros_like(self.initial.loc), torch.ones_like(self.initial.loc))
        z, log_q, _ = self.initial.draw(rng, k)
        point = None
        for t, reverse in enumerate(encoder.reverse):
            step = encoder.log_step[t].exp()
            if point is None or betas is not None:
                at = field(self._target(None if betas is None else betas[t]))
                point = at(z)
            noise, log_noise, _ = standard.draw(rng, k)
            point = at(z + step.square() / 2 * point.slope + step * noise)
            back = (z - point.z) / step - step / 2 * point.slope  # in units of the step, as the noise: scales cancel
            z = point.z
            log_q = log_q + log_noise - reverse(self.batch.x, z).log_prob(back)
        return Draw(z, log_q)

    def _target(self, beta: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The log density that a step climbs, nats."""

        def log_density(z: Tensor) -> Tensor:
            log_joint: Tensor = self.model.log_joint(self.batch, z)
            return log_joint if beta is None else (1 - beta) * self.initial.log_prob(z) + beta * log_joint

        return log_density
