"""Gradient metrics of an estimator over fixed batches: what the records hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from vbench.measure.accumulate import VectorMoments
from vbench.measure.bias import TargetSums, squared_distance
from vbench.measure.draws import owners, ranges
from vbench.measure.free import free_model
from vbench.measure.gradients import GradientMoments, gradient_moments, relative, root_ratio
from vbench.measure.measurement import Measurement
from vbench.measure.truth import BLOCKS, Truth
from vbench.rng import derive
from vbench.types import Batch, Estimator

__all__ = ["gradient_measurements"]


def gradient_measurements(
    model: nn.Module,
    estimator: Estimator,
    batches: Iterable[Batch],
    draws: int = 100,
    key: int = 0,
    method: str = "auto",
    target: Callable[[int, Batch], Truth] | None = None,
    again: Iterable[Batch] = (),
    posterior: bool = False,
    layers: bool = False,
) -> list[Measurement]:
    r"""Gradient metrics over fixed batches, for each part of the model and, if asked, for each layer of it.

    For the mean gradient g of a batch of B data:

    * ``gradient_variance``: noise, :math:`E_x \mathrm{tr\,Cov}(g | x)`, the mean over batches, nats^2; its error is
      of the draws alone. ``gradient_variance_per_weight``: the same over the number of scalars in the part.
    * ``gradient_variance_data``: :math:`\mathrm{tr\,Cov}_x\, E[g | x]`, what drawing other data adds, nats^2; unbiased,
      may be negative. From the means of single data where the method knows them, else from those of two batches
      or more. Its error, from the spread over batches, needs three.
    * ``gradient_variance_binarization``: :math:`\mathrm{tr\,Cov}\, E[g | \text{bits}]` at fixed data, the part of
      drawing bits in the data variance, nats^2; the rest is subsampling. From two draws of each batch's bits; its
      error, from the spread over batches, needs three.
    * ``noise_share``: noise over noise plus data, both at this B (by data that do not interact both fall as 1 / B,
      and the share does not depend on it).
    * ``gradient_norm``: root of the mean over batches of :math:`|E g|^2`, nats.
    * ``gradient_snr``, ``gradient_relative_variance``: of mean square and variance, each pooled over batches; the
      error of the first is the jackknife's over three batches or more.
    * ``work_normalized_variance``: noise x median seconds of one plain forward and backward pass, nats^2 s
      (error: the variance's). Machine-free: ``function_evaluations``, the decoder's per datum and gradient,
      those inside the encoder among them.

    And where there is a target t (:mod:`vbench.measure.bias`), over the same batches:

    * ``gradient_bias``: root of the mean over batches of :math:`|E g - t|^2`, nats; NaN where that is not two of its
      errors above zero. ``gradient_bias_squared``: the same without the root, unbiased, may be negative, nats^2.
    * ``gradient_mse``: variance plus squared bias, nats^2; ``gradient_relative_mse``: over :math:`|t|^2`.
    * ``gradient_cosine``: of the angle between E g and t. A single gradient's is less by
      :math:`\mathrm{snr} / \sqrt{1 + \mathrm{snr}^2}`, in the root mean square.

    The ``n`` of each is what its error rests on: draws, or batches where it is their spread, or blocks of draws.

    NaN is "not resolved": the mean square, or the data variance, is not above its own noise.

    Args:
        model: as in :func:`~vbench.measure.gradients.gradient_moments`.
        estimator: likewise.
        batches: fixed minibatches, the same for all estimators that are to be compared.
        draws: n, at each batch.
        key: batch b has its own draws, a function of (key, b).
        method: as in :func:`~vbench.measure.gradients.gradient_moments`.
        target: what the gradient of batch b is held against.
        posterior: also measure part ``posterior``, the gradient by what the encoder returns (logits; loc, log scale) of
            each datum: its noise and signal, without cost and without data variance. B times its variance is the mean
            over data of a single datum's.
        layers: also measure each layer, part ``encoder.net.0``.
        again: the same data as in each batch with bits drawn anew; as many draws are taken there.

    Raises:
        ValueError: no batch, or as :func:`~vbench.measure.gradients.gradient_moments`.

    Source: Rainforth et al. (2018), Tighter Variational Bounds Are Not Necessarily Better, arXiv:1802.04537
    (signal-to-noise ratio); Glynn & Whitt (1992), The Asymptotic Efficiency of Simulation Estimators,
    doi:10.1287/opre.40.3.505 (variance x time); Efron & Stein (1981), The Jackknife Estimate of Variance,
    doi:10.1214/aos/1176345462.
    """
    found, across, against = [], None, TargetSums()
    rebinarized, bits = iter(again), []
    free: list[GradientMoments] = []
    measured = partial(gradient_moments, model, estimator, draws=draws, layers=layers)
    for number, batch in enumerate(batches):
        other = next(rebinarized, None)
        truth, own = target(number, batch) if target else None, derive("batch", key, number)
        blocks = BLOCKS if truth or other else 0
        moments = measured(batch, key=own, method=method, blocks=blocks)
        if truth:
            against.add(moments.blocks, truth, moments.parts)
        if other:
            own = derive("bits", key, number)
            bits.append(_bits(moments, measured(other, key=own, blocks=BLOCKS)))
        moments = replace(moments, blocks=torch.empty(0, 0))
        flat = torch.cat([piece.flatten() for piece in moments.mean.values()])
        across = across or VectorMoments(ranges(moments.mean, owners(moments.mean, layers)))
        across.add(flat[None])
        if posterior:
            one, same = free_model(model, batch)
            free.append(gradient_moments(one, estimator, same, draws=draws, key=derive("posterior", key, number)))
        found.append(moments)
    if across is None:
        raise ValueError("gradients need at least one batch")
    result = [Measurement("function_evaluations", "all", found[0].evaluations, None, None, "1")]
    for part in found[0].variance:
        noise, *others = _noise(found, part)
        result += [noise, *others]
        if (data := _data(found, across, part)) is not None:
            result += [data, _share(noise, data)]
        if bits:
            result.append(_over_batches("gradient_variance_binarization", part, [each[part] for each in bits]))
        if target:
            result += against.measurements(noise)
    if free:
        result += [m._replace(part="posterior") for m in _noise(free, "all") if m.metric != "work_normalized_variance"]
    return result


def _noise(found: Sequence[GradientMoments], part: str) -> list[Measurement]:
    n, count, size = sum(m.draws for m in found), len(found), found[0].size[part]
    variance = sum(m.variance[part] for m in found) / count
    error = math.sqrt(sum(m.std_error[part] ** 2 for m in found)) / count
    square = sum(m.mean_square[part] for m in found) / count
    seconds = sum(m.seconds_per_gradient for m in found) / count
    norm = math.sqrt(square) if square > 0 else math.nan
    pairs = torch.tensor([[m.mean_square[part], m.variance[part]] for m in found], dtype=torch.float64)
    snr = root_ratio(square, variance)
    return [
        Measurement("gradient_variance", part, variance, error, n, "nats^2"),
        Measurement("gradient_variance_per_weight", part, variance / size, error / size, n, "nats^2"),
        Measurement("gradient_norm", part, norm, None, n, "nats"),
        Measurement("gradient_snr", part, snr, _jackknife(pairs, lambda p: root_ratio(*p.tolist())), count, "1"),
        Measurement("gradient_relative_variance", part, relative(variance, square), None, n, "1"),
        Measurement("work_normalized_variance", part, variance * seconds, error * seconds, n, "nats^2 s"),
    ]


def _jackknife(rows: Tensor, statistic: Callable[[Tensor], float]) -> float | None:
    """Standard error of a statistic of the mean of ``rows [n, *]``; None below three rows or where one is missed."""
    n = len(rows)
    if n < 3:
        return None
    without = torch.tensor([statistic((rows.sum(0) - row) / (n - 1)) for row in rows], dtype=torch.float64)
    error = float((without - without.mean()).norm()) * math.sqrt((n - 1) / n)
    return error if math.isfinite(error) else None


def _data(found: Sequence[GradientMoments], across: VectorMoments, part: str) -> Measurement | None:
    count = len(found)
    if told := [m.variance_data[part] for m in found if m.variance_data]:
        value, error = _mean(told)
    elif count > 1:
        spread = across.spread()[part]
        value = spread.variance - sum(m.variance[part] / m.draws for m in found) / count
        error = spread.std_error if count > 2 else None
    else:
        return None
    return Measurement("gradient_variance_data", part, value, error, count, "nats^2")


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over batches, and its error from their spread where there are three."""
    each = torch.tensor(values, dtype=torch.float64)
    return float(each.mean()), float(each.std()) / math.sqrt(len(values)) if len(values) > 2 else None


def _bits(one: GradientMoments, other: GradientMoments) -> dict[str, float]:
    """Variance between two draws of the bits, by part: half the squared distance of their expected gradients."""
    return {part: squared_distance(one.blocks[:, s], other.blocks[:, s]) / 2 for part, s in one.parts.items()}


def _over_batches(metric: str, part: str, values: Sequence[float]) -> Measurement:
    value, error = _mean(values)
    return Measurement(metric, part, value, error, len(values), "nats^2")


def _share(noise: Measurement, data: Measurement) -> Measurement:
    total = noise.value + data.value
    if not (data.value > 0 and total > 0):
        return Measurement("noise_share", noise.part, math.nan, None, data.n, "1")
    error = None
    if data.std_error is not None and noise.std_error is not None:
        error = math.hypot(data.value * noise.std_error, noise.value * data.std_error) / total**2
    return Measurement("noise_share", noise.part, noise.value / total, error, data.n, "1")
