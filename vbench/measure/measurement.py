"""What every measure returns, and what each needs of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from torch import Tensor

from vbench.types import Trait

__all__ = ["MEASURES", "Measurement", "mean_over_data"]


class Measurement(NamedTuple):
    """One number with its error.

    Attributes:
        metric: a stable name (``elbo``, ``gradient_variance``, ...).
        part: ``all``, ``encoder``, ``decoder``, ``prior`` or ``posterior``.
        value: NaN means "not resolved": the data do not tell it from zero.
        std_error: one standard error of ``value``; None where none is known.
        n: draws or data behind the value.
        unit: ``nats``, ``nats^2``, ``s``, ``bytes``, ...; ``1`` for a pure number.
    """

    metric: str
    part: str
    value: float
    std_error: float | None
    n: int | None
    unit: str


MEASURES: Final[Mapping[str, frozenset[str]]] = {
    "bound": frozenset(),
    "elbo": frozenset({Trait.PROPER_WEIGHT}),
    "rate": frozenset({Trait.NORMALIZED}),
    "distortion": frozenset({Trait.POSTERIOR}),
    "active_units": frozenset({Trait.POSTERIOR}),
    "mutual_information": frozenset({Trait.DENSITY, Trait.NORMALIZED}),
    "log_likelihood": frozenset({Trait.PROPER_WEIGHT}),
    "inference_gap": frozenset({Trait.LOC_SCALE}),
    "gradients": frozenset(),
}
"""Measure -> the traits that it needs; ``needs - offers`` is the reason it is skipped."""


def mean_over_data(metric: str, part: str, values: Tensor, unit: str) -> Measurement:
    """The mean of values ``[n]``, one for each datum, with error sd / sqrt(n) (None for a single datum)."""
    n = len(values)
    error = float(values.std()) / math.sqrt(n) if n > 1 else None
    return Measurement(metric, part, float(values.mean()), error, n, unit)
