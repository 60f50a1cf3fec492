r"""Is a mean what it should be? A sequential test with stated error rates and three verdicts.

Looks at n = 4096 * 2^k replicates. Each look spends an equal share of :data:`ALPHA`, half on Hotelling's
:math:`T^2` of the mean vector (any wrong direction) and half on a z-test of the scale
:math:`r = \langle \bar g, g^* \rangle / |g^*|^2` (a wrong factor, which :math:`T^2` sees last). FAIL where either
rejects. PASS only where the 99.9% interval of r lies within 1 +- 5% *and* the 99.9% bound on the bias is at most
10% of the unit. Otherwise more replicates, and INCONCLUSIVE when they run out: not rejecting is never called
unbiased. Directions without variance must agree exactly.

Two guards stand before any FAIL: heavy tails (Pareto shape of the squared norms) and rare events (fewer than 200
expected of some outcome), because the central limit theorem does not hold there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from scipy import optimize, special, stats
from torch import Tensor

from vbench.testing.verdict import Outcome, Verdict

__all__ = ["ALPHA", "FIRST", "LOOKS", "Accumulator", "Finding", "examine", "pareto_shape", "schedule"]

ALPHA: Final = 1e-4  # false alarms per check
FIRST: Final = 4096  # below, Hotelling's nominal rate does not hold: skew
LOOKS: Final = 8  # 524,288 replicates at the last
SCALE_MARGIN: Final = 0.05
BIAS_MARGIN: Final = 0.10
HEAVY: Final = 0.7  # Pareto shape of |g|^2 above which the mean is slow to turn normal; above 1 it has no variance
HEAVY_PRICE: Final = 1e-6  # what is taken off alpha in between
EXPECTED: Final = 200  # of the rarest outcome, at the first look
_CONFIDENCE: Final = 0.999
_Z: Final = float(stats.norm.ppf(0.5 + _CONFIDENCE / 2))


class Accumulator:
    """Mean vector and scatter matrix of a stream of vectors, and the norms that the tail is judged by."""

    def __init__(self, size: int) -> None:
        self.n = 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.scatter = torch.zeros(size, size, dtype=torch.float64)
        self._norms: list[Tensor] = []

    def add(self, samples: Tensor) -> None:
        """Take in ``samples [n, p]``."""
        samples = samples.double()
        count, mean = len(samples), samples.mean(0)
        centred, shift = samples - mean, mean - self.mean
        total = self.n + count
        self.scatter += centred.mT @ centred + torch.outer(shift, shift) * (self.n * count / total)
        self.mean = self.mean + shift * (count / total)
        self.n = total
        self._norms.append(samples.square().sum(1))

    @property
    def covariance(self) -> Tensor:
        """Unbiased, ``[p, p]``."""
        return self.scatter / (self.n - 1)

    def tail(self) -> float:
        """Pareto shape of the squared norms."""
        return pareto_shape(torch.cat(self._norms).numpy())


@dataclass(frozen=True)
class Finding:
    """What one look shows.

    Attributes:
        n: replicates.
        p: probability of so large a deviation from an exact mean; 0 where a direction without variance is off.
        ratio: r, the estimated scale; ``half`` the half width of its 99.9% interval.
        bias: 99.9% upper bound on |bias|, in units; ``off`` the observed distance.
        tail: Pareto shape of the squared norms.
        worst: the coordinate that is off most, in its standard errors.
    """

    n: int
    p: float
    ratio: float
    half: float
    bias: float
    off: float
    tail: float = field(default=-math.inf)
    worst: int = 0

    def verdict(self, alpha: float) -> Verdict | None:
        """Decided at this look, or None."""
        if self.p < alpha:
            return Verdict.FAIL if self.tail <= HEAVY or (self.tail < 1 and self.p < HEAVY_PRICE * alpha) else None
        close = abs(self.ratio - 1) + self.half <= SCALE_MARGIN and self.bias <= BIAS_MARGIN
        return Verdict.PASS if close else None

    def outcome(self, verdict: Verdict) -> Outcome:
        """The verdict with its figure."""
        text = f"r {self.ratio:.3f} +- {self.half:.3f}, |bias| <= {self.bias:.3f}, n {self.n}"
        if verdict is Verdict.FAIL:
            text = f"r {self.ratio:.3f} +- {self.half:.3f}, off by {self.off:.3f}, p {self.p:.1e}, n {self.n}"
            text += f", worst coordinate {self.worst}"
        elif verdict is Verdict.INCONCLUSIVE and self.tail > HEAVY:
            text += f"; heavy tails (Pareto shape {self.tail:.2f})"
        return Outcome(verdict, text)


def schedule(rarest: float = 0.5, looks: int = LOOKS) -> Iterator[int]:
    """Replicates in all at each look: none that expects fewer than :data:`EXPECTED` of the rarest outcome."""
    for look in range(looks):
        n = FIRST * 2**look
        if n * rarest >= EXPECTED:
            yield n


def examine(seen: Accumulator, truth: Tensor, unit: float | None = None) -> Finding:
    """Hold the mean against ``truth [p]``.

    Args:
        seen: what was drawn.
        truth: exact mean.
        unit: what a bias is a part of; None: the length of the truth.
    """
    truth = truth.double()
    length = float(truth.norm())
    length = length if length > 1e-9 else 0.0  # an exact zero, but for rounding
    unit = unit or length or 1.0
    error = seen.mean - truth
    covariance = seen.covariance
    if not bool(error.isfinite().all() and covariance.isfinite().all()):
        return Finding(seen.n, 0.0, math.nan, math.inf, math.inf, math.inf)
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    varying = deviation > 1e-9 * max(float(seen.mean.abs().max()), length, 1e-12)
    exact = bool((error[~varying].abs() <= 1e-6 * max(length, 1e-3)).all())
    errors = error / torch.where(varying, deviation, max(unit, 1e-12) * 1e-3)
    worst = int(errors.abs().argmax())
    off = float(error.norm()) / unit
    ratio = float(seen.mean @ truth) / length**2 if length else 1.0
    if not bool(varying.any()):
        return Finding(seen.n, 1.0 if exact else 0.0, ratio, 0.0, off, off, worst=worst)
    p_direction, settled = _hotelling(seen.n, error[varying], covariance[varying][:, varying], truth[varying])
    p_scale, half = 1.0, 0.0
    if length:
        se = math.sqrt(max(float(truth @ covariance @ truth), 0.0) / seen.n) / length**2
        half = _Z * se
        p_scale = 2 * float(stats.norm.sf(abs(ratio - 1) / se)) if se > 1e-12 else float(abs(ratio - 1) < 1e-6)
    p = min(1.0, 2 * min(p_direction, p_scale)) if exact and settled else 0.0
    return Finding(seen.n, p, ratio, half, _bias_bound(seen.n, error, covariance) / unit, off, seen.tail(), worst)


def _hotelling(n: int, error: Tensor, covariance: Tensor, truth: Tensor) -> tuple[float, bool]:
    """p-value of T^2 over the directions that vary, and whether the others agree exactly."""
    deviation = covariance.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(covariance / deviation / deviation[:, None])
    real = values > 1e-9 * values[-1]
    along = vectors.mT @ (error / deviation)
    settled = bool((along[~real].abs() <= 1e-6 * float((truth / deviation).norm()) + 1e-8).all())
    rank = int(real.sum())
    statistic = n * float((along[real].square() / values[real]).sum())
    return float(stats.f.sf(statistic * (n - rank) / (rank * (n - 1)), rank, n - rank)), settled


def _bias_bound(n: int, error: Tensor, covariance: Tensor) -> float:
    """99.9% upper bound on |bias|: noncentral chi-square, its spread taken for as even as its largest direction."""
    values = torch.linalg.eigvalsh(covariance)
    largest = max(float(values[-1]), 1e-300) / n
    freedom = max(float(values.sum()) / n / largest, 1.0)
    seen = float(error.square().sum()) / largest

    def excess(noncentrality: float) -> float:
        return float(special.chndtr(seen, freedom, noncentrality)) - (1 - _CONFIDENCE)

    if excess(1e-9) <= 0:  # smaller than noise alone would nearly ever make it
        return math.sqrt(largest * freedom)
    if seen > 1e4:  # nothing but bias: the normal limit, where the noncentral function loses its digits
        return math.sqrt(largest) * (math.sqrt(seen) + _Z)
    high = 4 * (math.sqrt(seen) + 10) ** 2
    return math.sqrt(largest * float(optimize.brentq(excess, 1e-9, high)))


def pareto_shape(values: np.ndarray) -> float:
    """Shape of the generalised Pareto tail of positive ``values [n]``: above 1 the mean does not exist.

    Source: Zhang & Stephens (2009), A New and Efficient Estimation Method for the Generalized Pareto Distribution,
    doi:10.1198/tech.2009.08017; the tail's length from Vehtari et al. (2024), arXiv:1507.02646.
    """
    size = int(min(0.2 * len(values), 3 * math.sqrt(len(values))))
    if size < 20:
        return -math.inf
    ordered = np.partition(values, len(values) - size - 1)
    cut = ordered[len(values) - size - 1]
    excess = np.sort(ordered[-size:] - cut)
    # ties at the end, as on a discrete latent: nothing lies beyond, so no tail
    if excess[-1] <= 0 or excess[size // 4] <= 0 or excess[-1] == excess[-size // 20]:
        return -math.inf
    count = 30 + int(math.sqrt(size))
    steps = 1 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))
    candidates = steps / 3 / excess[size // 4] + 1 / excess[-1]
    shapes = np.log1p(-candidates[:, None] * excess).mean(1)
    likelihood = size * (np.log(-candidates / shapes) - shapes - 1)
    weights = np.exp(likelihood - likelihood.max())
    theta = float((weights * candidates).sum() / weights.sum())
    shape = float(np.log1p(-theta * excess).mean())
    return (shape * size + 5) / (size + 10)
