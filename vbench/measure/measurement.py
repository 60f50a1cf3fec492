"""What every measure returns, and what each needs of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from vbench.records import Row
from vbench.steps import sequences
from vbench.types import Batch, Trait

__all__ = ["MEASURES", "Measurement", "mean_over_data", "per_step"]


class Measurement(NamedTuple):
    """One number with its error.

    Attributes:
        metric: a stable name (``elbo``, ``gradient_variance``, ...).
        part: ``all``, ``encoder``, ``decoder``, ``prior``, one of their layers (``encoder.net.0``) or ``posterior``.
        value: NaN means "not resolved": the data do not tell it from zero.
        std_error: one standard error of ``value``; None where none is known.
        n: draws or data behind the value.
        unit: ``nats``, ``nats^2``, ``s``, ``bytes``, ...; ``1`` for a pure number.
        values: of each datum ``[n]``, where they are worth keeping: what two models make of the same data compares
            datum by datum.
    """

    metric: str
    part: str
    value: float
    std_error: float | None
    n: int | None
    unit: str
    values: Tensor | None = None

    def row(self, step: int, split: str) -> Row:
        """What is recorded of it."""
        return Row(step, split, *self[:6])


MEASURES: Final[Mapping[str, frozenset[str]]] = {
    "bound": frozenset(),
    "elbo": frozenset({Trait.PROPER_WEIGHT}),
    "rate": frozenset({Trait.NORMALIZED}),
    "distortion": frozenset({Trait.POSTERIOR}),
    "active_units": frozenset({Trait.POSTERIOR}),
    "mutual_information": frozenset({Trait.DENSITY, Trait.NORMALIZED}),
    "mutual_information_cap": frozenset({Trait.DENSITY, Trait.NORMALIZED}),
    "aggregate_kl": frozenset({Trait.DENSITY, Trait.NORMALIZED}),
    "log_likelihood": frozenset({Trait.PROPER_WEIGHT}),
    "inference_gap": frozenset({Trait.LOC_SCALE}),
    "gradients": frozenset(),
}
"""Measure -> the traits that it needs; ``needs - offers`` is the reason it is skipped."""

_WHOLE: Final = ("mutual_information", "aggregate_kl")  # of latents that stand for whole sequences


def mean_over_data(metric: str, part: str, values: Tensor, unit: str, *, keep: bool = False) -> Measurement:
    """The mean of values ``[n]``, one for each datum, with error sd / sqrt(n) (None for a single datum)."""
    n = len(values)
    error = float(values.std()) / math.sqrt(n) if n > 1 else None
    return Measurement(metric, part, float(values.mean()), error, n, unit, values if keep else None)


def per_step(found: Iterable[Measurement], batches: Iterable[Batch]) -> list[Measurement]:
    """What is in nats per datum, of sequences, once more in nats per time step: ``elbo_per_step`` and its like.

    The total over all data divided by all their steps, as papers on sequences have it. The error takes lengths as
    given.
    """
    lengths = torch.cat([_lengths(batch) for batch in batches])
    mean = float(lengths.double().mean())
    return [
        m._replace(
            metric=_named_per_step(m.metric),
            value=m.value / mean,
            std_error=None if m.std_error is None else m.std_error / mean,
            unit="nats per step",
            values=None,
        )
        for m in found
        if m.unit == "nats" and not m.metric.startswith(_WHOLE)
    ]


def _named_per_step(metric: str) -> str:
    """``log_likelihood[k=10]`` becomes ``log_likelihood_per_step[k=10]``."""
    name, bracket, rest = metric.partition("[")
    return f"{name}_per_step{bracket}{rest}"


def _lengths(batch: Batch) -> Tensor:
    """Steps of each datum, ``[B]``."""
    data = sequences(batch.x, batch.mask)
    return torch.full((len(batch.x),), data.steps) if data.alive is None else data.alive.sum(1).cpu()
