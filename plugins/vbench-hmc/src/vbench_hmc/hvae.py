"""The Hamiltonian variational auto-encoder: one momentum, deterministic dynamics, tempering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from vbench import Activation, Batch, DiagonalNormal, Draw, Encoder, GaussianEncoder, Rng, Space, Trait
from vbench.dynamics import field, leapfrog

__all__ = ["HVAE", "Tempering"]

Tempering = Literal["none", "fixed", "free"]


class HVAE(Encoder):
    r"""A Gaussian guess and one momentum, moved by a deterministic, invertible map: no reverse model.

    :math:`z_0 \sim q(z_0 | x)`, :math:`v_0 \sim N(0, I / \beta_0)`; each of T steps is one leapfrog step under
    :math:`\log p(x, z)` and a cooling :math:`v \leftarrow v \sqrt{\beta_{t-1} / \beta_t}`, where
    :math:`\beta_0 \le \ldots \le \beta_T = 1`. The pair's target is :math:`p(x, z)\, N(v; 0, I)`. Leapfrog keeps
    volume and cooling multiplies it by :math:`\beta_0^{D/2}` in all, so

    .. math:: \log w = \log p(x, z_T) + \log N(v_T; 0, I) - \log q(z_0 | x) - \log N(v_0; 0, I / \beta_0)
       + \tfrac{D}{2} \log \beta_0

    is proper. Pathwise gradients only, by second derivatives of log p. Draws ``[K, B, latent]``; each costs T + 1
    evaluations of the decoder with their derivatives.

    Step sizes, one for each latent and below ``max_step``, and temperatures are parameters: none of the latter
    (``none``), :math:`\beta_0` alone with a quadratic schedule of :math:`1 / \sqrt{\beta_t}` (``fixed``), or every
    ratio (``free``).

    Source: Caterini, Doucet & Sejdinovic (2018), Hamiltonian Variational Auto-Encoder, arXiv:1805.11328.
    """

    offers = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        leapfrog: Annotated[int, Ge(1), "leapfrog steps"] = 5,
        step: Annotated[float, Gt(0), "initial step size, below max_step"] = 0.1,
        max_step: Annotated[float, Gt(0), "what step sizes stay below"] = 0.5,
        tempering: Annotated[Tempering, "which temperatures are learned"] = "fixed",
    ) -> None:
        super().__init__()
        if step >= max_step:
            raise ValueError(f"step must be below max_step, not {step} and {max_step}")
        self.z, self.leapfrog, self.max_step = Space((latent,)), leapfrog, max_step
        self.initial = GaussianEncoder(x, latent, hidden, activation)
        self.raw_step = nn.Parameter(torch.full((latent,), step / max_step).logit())
        count = {"none": 0, "fixed": 1, "free": leapfrog}[tempering]
        # cooling starts at half the momentum's scale in all, whichever parameters share it
        self.raw_cooling = nn.Parameter(torch.full((count,), 0.5 ** (1 / max(count, 1))).logit()) if count else None

    def coolings(self) -> Tensor:
        r"""What each step multiplies the momentum by, ``[T]``: :math:`\sqrt{\beta_{t-1} / \beta_t}`."""
        if self.raw_cooling is None:
            return self.raw_step.new_ones(self.leapfrog)
        ratios = self.raw_cooling.sigmoid()
        if len(ratios) == self.leapfrog:
            return ratios
        reached = torch.arange(self.leapfrog + 1, device=ratios.device).to(ratios) / self.leapfrog
        hot = (1 - 1 / ratios) * reached.square() + 1 / ratios  # one over the root of beta
        return hot[1:] / hot[:-1]

    def forward(self, batch: Batch, model: Any) -> _Trajectory:
        """q(z | x), known by its draws."""
        return _Trajectory(self, batch, model, self.initial(batch, model))


@dataclass(frozen=True)
class _Trajectory:
    encoder: HVAE
    batch: Batch
    model: Any
    initial: DiagonalNormal

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ends of trajectories ``[K, B, latent]``, differentiable in everything, with their denominators."""
        encoder, loc = self.encoder, self.initial.loc
        at = field(lambda z: self.model.log_joint(self.batch, z))
        coolings = encoder.coolings()
        log_root_beta = coolings.log().sum()  # half the log of beta_0
        start = DiagonalNormal(torch.zeros_like(loc), (-log_root_beta).exp().expand_as(loc))
        end = DiagonalNormal(torch.zeros_like(loc), torch.ones_like(loc))
        z, log_q, _ = self.initial.draw(rng, k)
        v, log_v, _ = start.draw(rng, k)
        point = at(z)
        for cooling in coolings:
            point, v = leapfrog(at, point, v, encoder.max_step * encoder.raw_step.sigmoid(), 1)
            v = cooling * v
        log_volume = encoder.z.size * log_root_beta
        return Draw(point.z, log_q + log_v - log_volume - end.log_prob(v))
