"""Exact answers by Gauss-Hermite quadrature: Gaussian posteriors over one or two latent variables.

The nodes stand in noise space, z = loc + scale * node, so autograd of the sum is the exact gradient of the
bound, for any prior and decoder. Nothing is known about how fast it converges but what doubling the nodes
shows: use :func:`settled`, which doubles until the answer stands still.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from scipy.special import roots_hermitenorm
from torch import Tensor

from vbench.oracles.common import LIMIT, expected_bound, expected_objective, expected_target, gradient, in_double
from vbench.types import Atoms, Batch, Bound, Objective, Target

__all__ = ["Settled", "bound_value", "log_evidence", "nodes", "settled", "target_gradient"]

# nodes of less weight are dropped: beyond 8.5 standard deviations, where most nodes of a large rule are
_NEGLIGIBLE: Final = 1e-16


class Settled(NamedTuple):
    """An answer that no longer moves."""

    value: Tensor  # [B], nats
    gradient: dict[str, Tensor]  # of the batch mean, by parameter name
    nodes: int  # for each latent variable, before negligible ones are dropped
    change: float  # largest relative change of value and gradient at the last doubling


def nodes(count: int, dimensions: int = 1) -> tuple[Tensor, Tensor]:
    """Nodes ``[S, D]`` and log weights ``[S]`` of the standard normal, S <= count^D; float64."""
    points, weights = (torch.from_numpy(a) for a in roots_hermitenorm(count))
    weights = weights / weights.sum()
    points = torch.cartesian_prod(*[points] * dimensions).reshape(-1, dimensions)
    mass = torch.cartesian_prod(*[weights] * dimensions).reshape(-1, dimensions).prod(1)
    kept = mass > _NEGLIGIBLE
    return points[kept], mass[kept].log()


def bound_value(model: Any, batch: Batch, bound: Bound | Objective, k: int, count: int, limit: int = LIMIT) -> Tensor:
    """E[bound(log w_1..K)] over z_k ~ q(z | x) by ``count`` nodes for each latent variable, ``[B]``, nats.

    An objective's expectation is its own, at the nodes of posterior and prior.

    Raises:
        ValueError: where q has no loc and scale or more than two variables, or there are too many terms.
    """
    if isinstance(bound, Objective):
        model, batch = in_double(model, batch)
        q, p = (_atoms(density, count) for density in (model.posterior(batch), model.prior_density(batch)))
        return expected_objective(bound, model, batch, q, p, limit)
    log_joint, log_q, log_mass = _at_nodes(model, batch, count)
    return expected_bound(bound, k, log_joint - log_q, log_mass, limit)


def log_evidence(model: Any, batch: Batch, count: int) -> Tensor:
    """Log p(x) = log E_q[w] by ``count`` nodes for each variable, ``[B]``, nats; q must be wide enough."""
    log_joint, log_q, log_mass = _at_nodes(model, batch, count)
    return (log_joint - log_q + log_mass).logsumexp(0)


def target_gradient(
    model: Any, batch: Batch, target: Target, k: int, count: int, limit: int = LIMIT
) -> dict[str, Tensor]:
    """The target's expectation by ``count`` nodes for each variable, by parameter name; the batch mean.

    Raises:
        ValueError: as :func:`bound_value`.
    """
    log_joint, log_q, log_mass = _at_nodes(model, batch, count, fixed=True)
    return gradient(expected_target(target, k, log_joint, log_q, log_mass, limit), model)


def settled(
    model: Any,
    batch: Batch,
    bound: Bound | Objective,
    k: int,
    tolerance: float = 1e-4,
    count: int = 10,
    limit: int = LIMIT,
    target: Target | None = None,
) -> Settled:
    """Value and gradient of the exact bound, the nodes doubled from ``count`` until neither moves.

    With a ``target``, its expectation takes the place of the gradient.

    The change is relative, in the largest entry of the value and in the length of each part's gradient (a
    part is the name up to its first dot: encoder, decoder, prior). A part that is zero but for rounding, a millionth
    of the whole gradient, is measured by the whole.

    Raises:
        ValueError: where the sum grows past ``limit`` terms before the change falls below ``tolerance``.
    """
    previous: tuple[Tensor, dict[str, Tensor]] | None = None
    change = float("inf")
    while True:
        try:
            value = bound_value(model, batch, bound, k, count, limit)
        except ValueError as error:
            if previous is None:
                raise
            raise ValueError(f"not settled at {count // 2} nodes, the change still {change:.1e}: {error}") from error
        slopes = target_gradient(model, batch, target, k, count, limit) if target else gradient(value, model)
        current = value.detach(), slopes
        if previous is not None:
            change = _change(previous, current)
            if change < tolerance:
                return Settled(*current, count, change)
        previous, count = current, 2 * count


def _change(old: tuple[Tensor, dict[str, Tensor]], new: tuple[Tensor, dict[str, Tensor]]) -> float:
    moved = [float((new[0] - old[0]).abs().max() / new[0].abs().max())]
    whole = float(torch.cat([g.flatten() for g in new[1].values()]).norm()) if new[1] else 0.0
    for part in {name.partition(".")[0] for name in new[1]}:
        names = [name for name in new[1] if name.partition(".")[0] == part]
        before, after = (torch.cat([g[name].flatten() for name in names]) for g in (old[1], new[1]))
        length = float(after.norm())
        length = length if length > 1e-6 * whole else whole
        moved.append(float((after - before).norm()) / length if length else float(before.norm()))
    return max(moved)


def _at_nodes(model: Any, batch: Batch, count: int, fixed: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Log joint and log density at the nodes, ``[S, B]`` each, and the log mass of each ``[S, 1]``."""
    model, batch = in_double(model, batch)
    q = model.posterior(batch)
    z, log_mass, log_q = _atoms(q, count)
    if fixed:
        z = z.detach()
        log_q = q.log_prob(z)
    return model.log_joint(batch, z), log_q, log_mass


def _atoms(density: Any, count: int) -> Atoms:
    """A Gaussian as ``count`` nodes for each latent variable, which move with its parameters."""
    if not (hasattr(density, "loc") and hasattr(density, "scale")):
        raise ValueError(f"quadrature needs a posterior with loc and scale, not {type(density).__name__}")
    dimensions = density.loc[0].numel()
    if dimensions > 2:
        raise ValueError(f"quadrature serves one or two latent variables, not {dimensions}")
    points, log_mass = (t.to(density.loc.device) for t in nodes(count, dimensions))
    z = density.loc + density.scale * points.reshape(-1, 1, *density.loc.shape[1:])
    return Atoms(z, log_mass[:, None], density.log_prob(z))
