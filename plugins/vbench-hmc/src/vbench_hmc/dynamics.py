"""Hamiltonian dynamics under a log density: the field, and the leapfrog integrator."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.func import grad

__all__ = ["Field", "Point", "field", "leapfrog"]

Field = Callable[[Tensor], "Point"]


class Point(NamedTuple):
    """A place and what a log density is there."""

    z: Tensor  # [K, B, *Z]
    slope: Tensor  # [K, B, *Z] of the log density, nats per unit of z
    log_density: Tensor  # [K, B], nats


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
    at: Field, point: Point, v: Tensor, step: Tensor, count: int, mass: Tensor | float = 1.0
) -> tuple[Point, Tensor]:
    r"""``count`` leapfrog steps from ``point`` with momentum ``v [K, B, *Z]``.

    .. math:: v \leftarrow v + \tfrac{\epsilon}{2} \nabla \log p(z), \qquad
       z \leftarrow z + \epsilon\, v / m, \qquad
       v \leftarrow v + \tfrac{\epsilon}{2} \nabla \log p(z)

    Keeps volume (the Jacobian's determinant is one) and runs backwards from ``(z, -v)``, whatever the step size.

    Args:
        at: the field of log p.
        point: where to start.
        v: momentum.
        step: epsilon, one number or one for each latent.
        count: number of steps, each one evaluation of the field.
        mass: m, one number or one for each latent.

    Source: Neal (2011), MCMC Using Hamiltonian Dynamics, arXiv:1206.1901, equations 2.28 to 2.30.
    """
    for _ in range(count):
        v = v + step / 2 * point.slope
        point = at(point.z + step * v / mass)
        v = v + step / 2 * point.slope
    return point, v
