"""Is it a density, and do draws follow it? Sums over every state, integrals over a whole line or plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import logsigmoid

from vbench.oracles.enumeration import states
from vbench.testing.procedure import ALPHA, Accumulator, examine
from vbench.testing.verdict import Outcome, Verdict
from vbench.types import Space

__all__ = ["CHUNK", "DRAWS", "Grid", "features", "follows", "grid", "in_chunks", "mean_is", "normalised", "same"]

CHUNK: Final = 1 << 12  # points at a time: a flow's nets keep a hundred numbers for each, a mixture's parts a thousand
DRAWS: Final = 20_000
_LINE: Final = 20_001
_SIDE: Final = 251
_ODDS: Final = 300  # log odds beyond which a product of two weights is nothing in float64
# one variable is free, and the first tells where: Kolmogorov and Smirnov's test
_ONE_FREE: Final = (("real", (1,)), ("simplex", (2,)), ("sphere", (2,)))


class Grid(NamedTuple):
    """Points ``[S, *event]`` with the log of what each stands for, ``[S]``: a count of one, or a length or area."""

    points: Tensor
    log_weight: Tensor
    log_steps: (
        Tensor  # the same by variable, [S, *event]; what stands for all of them together, where they are not free
    )


def grid(space: Space, fine: int = 1) -> Grid:
    """Every state of a discrete event; the midpoint rule in ``z = 2 tan u`` for one or two real ones.

    ``fine`` times as many points along each real variable.

    On a simplex that rule is for the log odds of each weight in what those before it have left. A circle is cut by the
    angle, a sphere by longitude, and by Gauss's rule in height.

    Raises:
        ValueError: more than two real variables, or too many states.
    """
    if space.support in ("binary", "categorical", "levels"):
        points = states(space, 1 << 17)
        return Grid(points, torch.zeros(len(points), dtype=torch.float64), torch.zeros_like(points))
    if space.support == "unit":
        raise ValueError("no rule for data between zero and one")
    if space.support in ("simplex", "sphere"):
        rule = _simplex if space.support == "simplex" else _sphere
        points, log_weight = rule(space)
        return Grid(points, log_weight, log_weight[:, None].expand_as(points))
    if space.size > 2:
        raise ValueError(f"no rule for {space.size} real variables")
    z, log_step = _line(fine * (_LINE if space.size == 1 else _SIDE))
    points = torch.cartesian_prod(*[z] * space.size).reshape(-1, *space.shape)
    steps = torch.cartesian_prod(*[log_step] * space.size).reshape(points.shape)
    return Grid(points, steps.flatten(1).sum(1), steps)


def _line(count: int) -> tuple[Tensor, Tensor]:
    """Midpoints of the whole line, and the log of the length of each."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count * math.pi - math.pi / 2
    return 2 * u.tan(), (2 * math.pi / count / u.cos().square()).log()


def _simplex(space: Space) -> tuple[Tensor, Tensor]:
    """Two or three weights, by the odds of the first, and of the second in what is left."""
    if space.shape not in ((2,), (3,)):
        raise ValueError(f"no rule for the simplex of {list(space.shape)}")
    odds, log_step = _line(_LINE if space.shape == (2,) else _SIDE)
    inside = odds.abs() < _ODDS
    odds, log_step = odds[inside], log_step[inside]
    log_v, log_rest = logsigmoid(odds), logsigmoid(-odds)
    log_step = log_step + log_v + log_rest  # dv = v (1 - v) d odds
    if space.shape == (2,):
        return torch.stack([log_v, log_rest], -1).exp(), log_step
    i, j = torch.meshgrid(*[torch.arange(len(odds))] * 2, indexing="ij")
    i, j = i.flatten(), j.flatten()
    points = torch.stack([log_v[i], log_rest[i] + log_v[j], log_rest[i] + log_rest[j]], -1).exp()
    return points, log_step[i] + log_step[j] + log_rest[i]


def _sphere(space: Space) -> tuple[Tensor, Tensor]:
    """The circle or the sphere."""
    if space.shape not in ((2,), (3,)):
        raise ValueError(f"no rule for the sphere of {list(space.shape)}")
    count = _LINE if space.shape == (2,) else _SIDE
    angle = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 * math.pi
    around = torch.stack([angle.cos(), angle.sin()], -1)
    length = math.log(2 * math.pi / count)
    if space.shape == (2,):
        return around, angle.new_full((count,), length)
    heights, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_SIDE))
    i, j = (n.flatten() for n in torch.meshgrid(torch.arange(_SIDE), torch.arange(count), indexing="ij"))
    radius = (1 - heights.square()).sqrt()
    return torch.cat([radius[i, None] * around[j], heights[i, None]], -1), weights[i].log() + length


def normalised(log_mass: Tensor) -> Outcome:
    """Whether ``log_mass [S, B]``, log density plus log weight, sums to one for every datum."""
    total = log_mass.exp().sum(0)
    worst = float((total - 1).abs().max()) if bool(total.isfinite().all()) else math.inf
    figure = f"integrates to one within {worst:.1e}"
    return Outcome(Verdict.PASS if worst < 2e-3 else Verdict.FAIL, figure)


def features(z: Tensor, space: Space) -> Tensor:
    """Bounded statistics of events ``[..., *event] -> [..., F]``: each variable, and every product of two."""
    flat = z.flatten(z.dim() - len(space.shape)) if space.shape else z[..., None]
    flat = flat[..., :12].tanh() if space.support == "real" else flat[..., :12]
    pairs = torch.triu_indices(flat.shape[-1], flat.shape[-1])
    return torch.cat([flat, flat[..., pairs[0]] * flat[..., pairs[1]]], -1)


def mean_is(samples: Tensor, truth: Tensor, unit: float | None = None) -> Outcome:
    """Whether independent ``samples [n, p]`` have this mean ``[p]``."""
    seen = Accumulator(samples.shape[1])
    seen.add(samples)
    found = examine(seen, truth, unit)
    verdict = Verdict.FAIL if found.p < ALPHA else Verdict.PASS
    return Outcome(verdict, f"off by {found.off:.4f} of its length, p {found.p:.1e}, n {found.n}")


def follows(drawn: Tensor, log_mass: Tensor, points: Grid, space: Space) -> Outcome:
    """Whether draws ``[n, *event]`` follow the density whose log masses at the grid are ``[S]``."""
    mass = log_mass.exp()
    if (space.support, space.shape) in _ONE_FREE:
        line, order = points.points.reshape(len(mass), -1)[:, 0].sort()
        below = mass[order].cumsum(0) - mass[order] / 2
        first = drawn.reshape(len(drawn), -1)[:, 0]
        p = float(stats.kstest(np.interp(first.numpy(), line.numpy(), below.numpy()), "uniform").pvalue)
        if p < ALPHA:
            return Outcome(Verdict.FAIL, f"Kolmogorov-Smirnov p {p:.1e}, n {len(drawn)}")
    truth = (mass[:, None] * features(points.points, space)).sum(0)
    return mean_is(features(drawn, space), truth, 1.0)


def same(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-6) -> Outcome:
    """Whether two tensors are equal but for rounding."""
    if a.shape != b.shape:
        return Outcome(Verdict.FAIL, f"{what}: shape {tuple(a.shape)}, expected {tuple(b.shape)}")
    # two equal infinities do not differ
    worst = float(torch.where(a == b, 0, (a - b).abs() / (1 + b.abs())).max().detach())
    return Outcome(Verdict.PASS if worst < tolerance else Verdict.FAIL, f"{what} differ by {worst:.1e}")


def in_chunks(points: Tensor, ask: Callable[[Tensor], Tensor], size: int = 1 << 16) -> Tensor:
    """``ask`` on pieces of ``points [S, ...]``, joined along the first dimension."""
    return torch.cat([ask(points[start : start + size]) for start in range(0, len(points), size)])
