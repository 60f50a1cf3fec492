"""Hamiltonian dynamics under a log density: the field, the leapfrog integrator, and the choice that makes it exact.

Packages build kernels from it as the core does: ``from vbench.dynamics import field, leapfrog``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.func import grad

from vbench.rng import Rng

__all__ = ["Field", "Place", "Point", "accepted", "field", "leapfrog", "log_normal"]


class Place(Protocol):
    """Where a trajectory is, and the slope that moves it on."""

    @property
    def z(self) -> Tensor:
        """``[K, B, *Z]``."""
        ...

    @property
    def slope(self) -> Tensor:
        """``[K, B, *Z]`` of the log density, nats per unit of z."""
        ...


_P = TypeVar("_P", bound=Place)


class Point(NamedTuple):
    """A place and what a log density is there."""

    z: Tensor  # [K, B, *Z]
    slope: Tensor  # [K, B, *Z] of the log density, nats per unit of z
    log_density: Tensor  # [K, B], nats


Field = Callable[[Tensor], Point]


def field(log_density: Callable[[Tensor], Tensor]) -> Field:
    """``z [K, B, *Z] -> Point`` at the price of one evaluation and its derivative.

    It can be differentiated once more, in z and in whatever ``log_density`` is made from, runs under ``vmap``, and
    works where gradients are switched off.
    """

    def total(z: Tensor) -> tuple[Tensor, Tensor]:
        value = log_density(z)
        return value.sum(), value  # rows do not interact, so the gradient of the sum is each row's own

    def at(z: Tensor) -> Point:
        slope, value = grad(total, has_aux=True)(z)
        return Point(z, slope, value)

    return at


def leapfrog(
    at: Callable[[Tensor], _P], point: _P, v: Tensor, step: Tensor, count: int, mass: Tensor | float = 1.0
) -> tuple[_P, Tensor]:
    r"""``count`` leapfrog steps from ``point`` with momentum ``v [K, B, *Z]``.

    .. math:: v \leftarrow v + \tfrac{\epsilon}{2} \nabla \log p(z), \qquad
       z \leftarrow z + \epsilon\, v / m, \qquad
       v \leftarrow v + \tfrac{\epsilon}{2} \nabla \log p(z)

    Keeps volume (the Jacobian's determinant is one) and runs backwards from ``(z, -v)``, whatever the step size.

    Args:
        at: the field of log p.
        point: where to start.
        v: momentum.
        step: epsilon, one number, or what broadcasts against z.
        count: number of steps, each one evaluation of the field.
        mass: m, one number or one for each latent.

    Source: Neal (2011), MCMC Using Hamiltonian Dynamics, arXiv:1206.1901, equations 2.28 to 2.30.
    """
    for _ in range(count):
        v = v + step / 2 * point.slope
        point = at(point.z + step * v / mass)
        v = v + step / 2 * point.slope
    return point, v


def accepted(log_ratio: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
    """Metropolis' choice: true with probability min(1, ratio), and that probability; what is not finite is refused.

    Source: Metropolis et al. (1953), Equation of State Calculations by Fast Computing Machines, doi:10.1063/1.1699114.
    """
    acceptance = torch.where(log_ratio.isfinite(), log_ratio, -torch.inf).clamp(max=0).exp()
    return rng.uniform(*acceptance.shape, dtype=acceptance.dtype) < acceptance.detach(), acceptance


def log_normal(v: Tensor) -> Tensor:
    """Standard normal log density without its constant, ``[K, B, *Z] -> [K, B]``."""
    return -0.5 * v.reshape(*v.shape[:2], -1).square().sum(-1)
