r"""How far an estimator's expectation is from a target, and in which direction; from inner products alone.

With independent unbiased means :math:`m_1..m_J` of the estimator and :math:`t_1..t_L` of the target,

.. math:: |E g - t|^2 \approx \frac{1}{J(J-1)} \sum_{i \ne j} m_i^\top m_j - \frac{2}{JL} \sum_{i, l} m_i^\top t_l
   + \frac{1}{L(L-1)} \sum_{l \ne n} t_l^\top t_n

is unbiased: no mean meets itself. Errors are the jackknife's over the means of both (conservative, also where there is
no bias: Efron & Stein). Batches add up, as if their gradients stood in one long vector.

Source: Hoeffding (1948), A Class of Statistics with Asymptotically Normal Distribution,
doi:10.1214/aoms/1177730196; Efron & Stein (1981), The Jackknife Estimate of Variance, doi:10.1214/aos/1176345462.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from vbench.measure.measurement import Measurement
from vbench.measure.truth import Truth

__all__ = ["TargetSums", "squared_distance"]

_RESOLVED: Final = 2  # standard errors
_ROUNDING: Final = 1e-10  # of squared norms: gradients are single precision


class _Products(NamedTuple):
    """Inner products of the means, ``[J, J]``, ``[J, L]`` and ``[L, L]``; what is exact meets itself."""

    own: Tensor
    across: Tensor
    target: Tensor
    exact: bool

    def without(self, axis: int, place: int) -> _Products:
        """One mean of the estimator (0) or of the target (1) left out."""
        kept = torch.arange(len(self.own if axis == 0 else self.target)) != place
        if axis == 0:
            return self._replace(own=self.own[kept][:, kept], across=self.across[kept])
        return self._replace(target=self.target[kept][:, kept], across=self.across[:, kept])

    @property
    def signal(self) -> float:
        """Of the estimator's expectation, squared."""
        return _pairs(self.own)

    @property
    def size(self) -> float:
        """Of the target, squared."""
        return float(self.target[0, 0]) if self.exact else _pairs(self.target)

    @property
    def bias(self) -> float:
        """Squared."""
        return self.signal - 2 * float(self.across.mean()) + self.size

    @property
    def cosine(self) -> float:
        """NaN where either length is not resolved."""
        lengths = self.signal * self.size if self.signal > 0 and self.size > 0 else math.nan
        return float(self.across.mean()) / math.sqrt(lengths)

    def error(self, statistic: Callable[[_Products], float]) -> float:
        """The jackknife's; NaN where there are too few means."""
        squares = 0.0
        for axis, means in enumerate((self.own, self.target)):
            n = len(means)
            if axis == 1 and self.exact:
                continue
            if n < 3:
                return math.nan
            left = torch.tensor([statistic(self.without(axis, i)) for i in range(n)], dtype=torch.float64)
            squares += float((left - left.mean()).square().sum()) * (n - 1) / n
        return math.sqrt(squares)


def _pairs(gram: Tensor) -> float:
    n = len(gram)
    return float(gram.sum() - gram.trace()) / (n * (n - 1))


def squared_distance(blocks: Tensor, others: Tensor) -> float:
    """Unbiased squared distance between what independent means ``[J, P]`` and ``[L, P]`` are means of."""
    return _Products(blocks @ blocks.mT, blocks @ others.mT, others @ others.mT, False).bias


class TargetSums:
    """Inner products by part, summed over batches."""

    def __init__(self) -> None:
        self._sums: dict[str, _Products] = {}
        self._batches = 0

    def add(self, blocks: Tensor, truth: Truth, parts: Mapping[str, slice]) -> None:
        """Take a batch: independent means ``[J, P]`` of the estimator's gradient, and the target's."""
        self._batches += 1
        for part, where in {"all": slice(None), **parts}.items():
            m, t = blocks[:, where], truth.blocks[:, where]
            found = [m @ m.mT, m @ t.mT, t @ t.mT]
            if part in self._sums:
                found = [a + b for a, b in zip(found, self._sums[part][:3], strict=True)]
            self._sums[part] = _Products(found[0], found[1], found[2], truth.exact)

    def measurements(self, noise: Measurement) -> list[Measurement]:
        """Bias, mean squared error and cosine of the part of ``noise``, the mean variance over batches."""
        part = noise.part
        *grams, exact = self._sums[part]
        own, across, target = (gram / self._batches for gram in grams)
        products, n = _Products(own, across, target, exact), len(own)
        bias, error = products.bias, products.error(lambda p: p.bias)
        spread = noise.std_error or 0.0
        total = noise.value + bias

        def relative(p: _Products) -> float:
            return (noise.value + p.bias) / p.size if p.size > 0 else math.nan

        share = relative(products)
        return [
            Measurement("gradient_bias_squared", part, bias, _known(error), n, "nats^2"),
            _root(part, bias, error, _ROUNDING * (abs(products.signal) + abs(products.size)), n),
            Measurement("gradient_mse", part, _positive(total), _known(math.hypot(error, spread)), n, "nats^2"),
            Measurement(
                "gradient_relative_mse",
                part,
                _positive(share),
                _known(math.hypot(products.error(relative), spread / products.size if products.size > 0 else math.nan)),
                n,
                "1",
            ),
            Measurement("gradient_cosine", part, products.cosine, _known(products.error(lambda p: p.cosine)), n, "1"),
        ]


def _root(part: str, square: float, error: float, least: float, n: int | None) -> Measurement:
    resolved = square > max(_RESOLVED * error, least)  # false where the error is not known
    value = math.sqrt(square) if resolved else math.nan
    return Measurement("gradient_bias", part, value, _known(error / (2 * value)), n, "nats")


def _known(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _positive(value: float) -> float:
    return value if value >= 0 else math.nan
