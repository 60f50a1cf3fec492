"""Is it a density, and do draws follow it? Sums over every state, integrals over a whole line or plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from vbench.oracles.enumeration import states
from vbench.testing.procedure import ALPHA, Accumulator, examine
from vbench.testing.verdict import Outcome, Verdict
from vbench.types import Space

__all__ = ["DRAWS", "Grid", "features", "follows", "grid", "mean_is", "normalised"]

DRAWS: Final = 20_000
_LINE: Final = 20_001
_SIDE: Final = 251


class Grid(NamedTuple):
    """Points ``[S, *event]`` with the log of what each stands for, ``[S]``: a count of one, or a length or area."""

    points: Tensor
    log_weight: Tensor
    log_steps: Tensor  # the same by variable, [S, *event]


def grid(space: Space) -> Grid:
    """Every state of a discrete event; the midpoint rule in ``z = 2 tan u`` for one or two real ones.

    Raises:
        ValueError: more than two real variables, or too many states.
    """
    if space.support in ("binary", "categorical"):
        points = states(space, 1 << 17)
        return Grid(points, torch.zeros(len(points), dtype=torch.float64), torch.zeros_like(points))
    if space.support == "unit":
        raise ValueError("no rule for data between zero and one")
    if space.size > 2:
        raise ValueError(f"no rule for {space.size} real variables")
    count = _LINE if space.size == 1 else _SIDE
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count * math.pi - math.pi / 2
    z, log_step = 2 * u.tan(), (2 * math.pi / count / u.cos().square()).log()
    points = torch.cartesian_prod(*[z] * space.size).reshape(-1, *space.shape)
    steps = torch.cartesian_prod(*[log_step] * space.size).reshape(points.shape)
    return Grid(points, steps.flatten(1).sum(1), steps)


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
    if space.support == "real" and space.size == 1:
        line = points.points.flatten()
        below = mass.cumsum(0) - mass / 2
        p = float(stats.kstest(np.interp(drawn.flatten().numpy(), line.numpy(), below.numpy()), "uniform").pvalue)
        if p < ALPHA:
            return Outcome(Verdict.FAIL, f"Kolmogorov-Smirnov p {p:.1e}, n {len(drawn)}")
    truth = (mass[:, None] * features(points.points, space)).sum(0)
    return mean_is(features(drawn, space), truth, 1.0)


def same(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-6) -> Outcome:
    """Whether two tensors are equal but for rounding."""
    if a.shape != b.shape:
        return Outcome(Verdict.FAIL, f"{what}: shape {tuple(a.shape)}, expected {tuple(b.shape)}")
    worst = float(((a - b).abs() / (1 + b.abs())).max().detach())
    return Outcome(Verdict.PASS if worst < tolerance else Verdict.FAIL, f"{what} differ by {worst:.1e}")


def in_chunks(points: Tensor, ask: Callable[[Tensor], Tensor], size: int = 1 << 16) -> Tensor:
    """``ask`` on pieces of ``points [S, ...]``, joined along the first dimension."""
    return torch.cat([ask(points[start : start + size]) for start in range(0, len(points), size)])
