"""The angle between a von Mises-Fisher variable and its mean: density, normaliser and quantiles, in any dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

__all__ = ["PolarAngle", "log_area"]

_PANELS: Final = 32
_DEPTH: Final = 45.0  # nats below the top, where the density is cut off: nothing, in float64 too
_HALVINGS: Final = 50
_STEPS: Final = 16  # of Newton's method, see the tests
_GAUSS: Final = tuple(map(torch.from_numpy, np.polynomial.legendre.leggauss(8)))
_NODES, _WEIGHTS = (_GAUSS[0] + 1) / 2, _GAUSS[1] / 2  # on [0, 1]


def log_area(n: int) -> float:
    """Log of the area of the unit sphere in n dimensions."""
    return math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)


@dataclass(frozen=True)
class PolarAngle:
    r"""Angles t in (0, pi) with density proportional to :math:`f(t) = e^{\kappa (\cos t - 1)} \sin^{n-2} t`.

    Every integral is Gauss's rule on panels between the points where f has fallen to nothing, as good for a needle as
    for an even spread. Those points, and the scale of f, are constants, on which nothing depends.

    Attributes:
        concentration: kappa, ``[B]``, positive.
        n: dimensions of the space that the sphere stands in.
    """

    concentration: Tensor
    n: int

    @cached_property
    def log_normaliser(self) -> Tensor:
        """Log of the integral of f, ``[B]``."""
        return self._mass.sum((1, 2)).log() + self._window[2]

    @cached_property
    def mean_cosine_less_one(self) -> Tensor:
        """E[cos t] - 1, ``[B]``."""
        return (self._mass * _cosine_less_one(self._points)).sum((1, 2)) / self._mass.sum((1, 2))

    def quantile(self, u: Tensor) -> Tensor:
        """The angles with so much of the mass below, ``[K, B] -> [K, B]``; differentiable in kappa, once."""
        start, width, _ = self._window
        until = self._mass.sum(2).cumsum(-1)
        goal = u * until[:, -1]
        panel = (goal.detach()[..., None] >= until.detach()).sum(-1, keepdim=True).clamp(max=_PANELS - 1)
        until = torch.cat([torch.zeros_like(until[:, :1]), until], -1).expand(*u.shape, -1)
        below, left = until.gather(-1, panel)[..., 0], start + panel[..., 0] * width
        with torch.no_grad():
            low, high = torch.zeros_like(goal), width.expand_as(goal)
            step = high / 2
            for _ in range(_STEPS):
                found = below + self._over(left, step)
                short = found < goal
                low, high = torch.where(short, step, low), torch.where(short, high, step)
                # for the logarithm, which is concave: from where it falls short no step goes too far
                step = step - found * (found / goal).log() / self._slope(left + step)
                step = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
            slope = self._slope(left + step)
        # one step more: its derivative is that of the root
        return left + step - (below + self._over(left, step) - goal) / slope

    @cached_property
    def _window(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the first panel begins, how wide each is, and log f at its top, ``[B]`` each."""
        kappa, power = self.concentration.detach(), self.n - 2
        mode = (2 * kappa / (power + (power**2 + 4 * kappa.square()).sqrt())).clamp(max=1).acos()
        top = self._log_f(mode, kappa)
        edges = []
        for end in (torch.zeros_like(mode), torch.full_like(mode, math.pi)):
            outside, inside = end, mode
            for _ in range(_HALVINGS):
                middle = (outside + inside) / 2
                seen = self._log_f(middle, kappa) > top - _DEPTH
                outside, inside = torch.where(seen, outside, middle), torch.where(seen, middle, inside)
            edges.append(inside)
        return edges[0], (edges[1] - edges[0]) / _PANELS, top

    @cached_property
    def _points(self) -> Tensor:
        """Of the rule, ``[B, panels, nodes]``."""
        start, width, _ = self._window
        places = torch.arange(_PANELS, device=start.device)[:, None] + _NODES.to(start)
        return start[:, None, None] + width[:, None, None] * places

    @cached_property
    def _mass(self) -> Tensor:
        """f over the scale of its top, times the length that each point stands for."""
        _, width, top = (v[:, None, None] for v in self._window)
        f = (self._log_f(self._points, self.concentration[:, None, None]) - top).exp()
        return f * width * _WEIGHTS.to(width)

    def _over(self, left: Tensor, step: Tensor) -> Tensor:
        """The integral of f over so long a step, ``[K, B]``, over the scale of its top."""
        points = left[..., None] + step[..., None] * _NODES.to(step)
        f = (self._log_f(points, self.concentration[:, None]) - self._window[2][:, None]).exp()
        return step * (f * _WEIGHTS.to(step)).sum(-1)

    def _slope(self, t: Tensor) -> Tensor:
        f = (self._log_f(t, self.concentration) - self._window[2]).exp()
        return f.clamp(min=torch.finfo(t.dtype).tiny)

    def _log_f(self, t: Tensor, kappa: Tensor) -> Tensor:
        spread = kappa * _cosine_less_one(t)
        if self.n == 2:
            return spread
        return spread + (self.n - 2) * t.sin().clamp(min=torch.finfo(t.dtype).tiny).log()


def _cosine_less_one(t: Tensor) -> Tensor:
    return -2 * (t / 2).sin().square()
