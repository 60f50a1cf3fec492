"""Von Mises-Fisher posterior: a normal distribution's kin on the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import softplus

from vbench import Activation, Batch, Draw, Encoder, Rng, Space, Trait, mlp
from vbench_priors.polar_angle import PolarAngle, log_area
from vbench_priors.uniform_sphere import UniformSphere

__all__ = ["VonMisesFisher", "VonMisesFisherEncoder"]


@dataclass(frozen=True)
class VonMisesFisher:
    """Directions around a mean direction, by area.

    Attributes:
        mean_direction: ``[B, n]``, of length one.
        concentration: kappa, ``[B]``, positive.
    """

    mean_direction: Tensor
    concentration: Tensor

    @cached_property
    def _angle(self) -> PolarAngle:
        return PolarAngle(self.concentration, self.mean_direction.shape[-1])

    @cached_property
    def _log_constant(self) -> Tensor:
        """Log density at the mean direction, ``[B]``."""
        return -self._angle.log_normaliser - log_area(self.mean_direction.shape[-1] - 1)

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, n]``, differentiable in both parameters."""
        n, dtype = self.mean_direction.shape[-1], self.mean_direction.dtype
        angle = self._angle.quantile(rng.uniform(k, *self.concentration.shape, dtype=dtype))[..., None]
        around = rng.normal(k, *self.concentration.shape, n - 1, dtype=dtype)
        around = around / around.norm(dim=-1, keepdim=True)
        z = self._turned(torch.cat([angle.cos(), angle.sin() * around], -1))
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, n] -> [K, B]``, nats."""
        return self.concentration * ((z * self.mean_direction).sum(-1) - 1) + self._log_constant

    def kl(self, other: UniformSphere) -> Tensor:
        """KL(self || other) in nats, ``[B]``; the other is the same everywhere."""
        return (
            self.concentration * self._angle.mean_cosine_less_one
            + self._log_constant
            - other.log_prob(self.mean_direction)
        )

    def _turned(self, z: Tensor) -> Tensor:
        """The reflection that takes the first axis to the mean direction, or to its opposite and is turned round."""
        # of the two the one whose mirror is not undefined where they meet
        first = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)[0]
        side = torch.where(self.mean_direction[..., :1] >= 0, 1.0, -1.0).to(z.dtype)
        mirror = first + side * self.mean_direction
        along = (z * mirror).sum(-1, keepdim=True) / mirror.square().sum(-1, keepdim=True)
        return side * (2 * along * mirror - z)


class VonMisesFisherEncoder(Encoder):
    r"""Directions around a mean direction.

    .. math:: q(z | x) \propto e^{\kappa(x)\, \mu(x)^\top z}, \qquad \|z\| = \|\mu\| = 1, \qquad \kappa > 1

    with the direction and, by softplus, the concentration from one net. A draw has an angle t from the mean direction,
    by the inverse of its distribution function F, and about that an even direction, turned to where the mean points.
    The root of F(t; kappa) = u is differentiated as such, :math:`dt / d\kappa = -F_\kappa / F_t`, so the whole gradient
    goes by the path. (The source accepts and rejects proposals: the path of what is accepted is but a part of the
    gradient there, and a score term of the bound has to correct it.)

    Latents are vectors of length one, ``[latent + 1]``; the density is by the sphere's area.

    Source: Davidson, Falorsi, De Cao, Kipf & Tomczak (2018), Hyperspherical Variational Auto-Encoders,
    arXiv:1804.00891; Figurnov, Mohamed & Mnih (2018), Implicit Reparameterization Gradients, arXiv:1805.08498.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED, Trait.KL})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "dimensions of the sphere, one less than of its space"] = 10,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = Space((latent + 1,), "sphere")
        self.net = mlp(x.size, hidden, latent + 2, activation)

    def forward(self, batch: Batch, model: Any) -> VonMisesFisher:
        """q(z | x) with parameters ``[B, latent + 1]`` and ``[B]``."""
        raw, spread = self.net(batch.x.flatten(1)).split([self.z.size, 1], -1)
        length = raw.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(raw.dtype).tiny)
        return VonMisesFisher(raw / length, 1 + softplus(spread[:, 0]))
