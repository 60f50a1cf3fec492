"""Means over seeds with their intervals, and what a single seed's own record says of its error."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Average", "geometric", "log_delta", "mean", "over_data"]


class Average(NamedTuple):
    """A figure and the ends of its 95% interval (NaN where there is none); ``kind`` says what the interval covers."""

    value: float
    low: float
    high: float
    kind: str


def mean(values: Sequence[float]) -> Average:
    r"""Mean over seeds :math:`\bar v \pm t_{n-1} s / \sqrt n`."""
    middle = math.fsum(values) / len(values)
    half = _half(values)
    return Average(middle, middle - half, middle + half, "t over seeds" if len(values) > 1 else "")


def geometric(values: Sequence[float]) -> Average:
    r"""Geometric mean over seeds, :math:`\exp(\overline{\log v} \pm t_{n-1} s_{\log v} / \sqrt n)`; 0 if one is 0.

    Of negative values there is none: NaN.
    """
    if min(values) <= 0:
        return Average(0.0 if min(values) == 0 else math.nan, math.nan, math.nan, "")
    logs = [math.log(value) for value in values]
    middle, half = math.fsum(logs) / len(logs), _half(logs)
    kind = "t over seeds, of logs" if len(values) > 1 else ""
    return Average(math.exp(middle), _exp(middle - half), _exp(middle + half), kind)


def log_delta(value: float, std_error: float, n: int) -> Average:
    r"""One measured variance, delta method on the log scale: :math:`v \exp(\pm t_{n-1}\, \mathrm{se} / v)`."""
    if not value > 0 or not std_error >= 0 or n < 2:
        return Average(value, math.nan, math.nan, "")
    half = _t(n - 1) * std_error / value
    return Average(value, value * _exp(-half), value * _exp(half), "Monte Carlo, one seed")


def over_data(value: float, std_error: float, n: int) -> Average:
    """One measured mean with its own error: it covers the choice of data or draws, not of the seed."""
    if not std_error >= 0 or n < 2:
        return Average(value, math.nan, math.nan, "")
    half = _t(n - 1) * std_error
    return Average(value, value - half, value + half, "t over data, one seed")


def _half(values: Sequence[float]) -> float:
    count = len(values)
    if count < 2:
        return math.nan
    middle = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (count - 1) / count)
    return _t(count - 1) * spread


@functools.cache
def _t(freedom: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom))


def _exp(power: float) -> float:
    return math.inf if power > 709 else math.exp(power)
