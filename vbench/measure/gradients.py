"""Moments of a gradient estimator at fixed parameters: variance, signal, and what they cost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vbench.measure.accumulate import VectorMoments
from vbench.measure.draws import METHODS, GradientDraws, part_ranges
from vbench.measure.measurement import Measurement
from vbench.rng import Rng, derive
from vbench.types import Batch, Estimator

__all__ = ["GradientMoments", "adapt", "gradient_measurements", "gradient_moments"]


@dataclass(frozen=True)
class GradientMoments:
    r"""What n draws tell of a minibatch gradient g, the parameters and the batch held fixed.

    Mappings are by part: ``all`` (the model's trainable parameters, never the estimator's own), ``encoder``,
    ``decoder``, ``prior``; a part without trainable parameters is left out.

    Attributes:
        variance: trace of the sample covariance of g (n - 1), nats^2. The estimator's noise only.
        std_error: of ``variance``. Its interval is :math:`v \exp(\pm t_{n-1}\, \mathrm{se} / v)`; one by
            chi-square has the wrong coverage at any n.
        mean_square: unbiased :math:`|E g|^2`, :math:`|\bar g|^2 - v / n`, nats^2; may be negative.
        mean: sample mean by parameter name, float64.
        draws: n.
        evaluations: decoder evaluations per datum and draw.
        seconds: wall time of the whole measurement.
        seconds_per_gradient: median wall time of one plain forward and backward pass, whatever the method.
        method: the method used, ``vmap`` or ``loop``.
    """

    variance: Mapping[str, float]
    std_error: Mapping[str, float]
    mean_square: Mapping[str, float]
    mean: Mapping[str, Tensor] = field(repr=False, compare=False)
    draws: int
    evaluations: int
    seconds: float
    seconds_per_gradient: float
    method: str

    @property
    def snr(self) -> dict[str, float]:
        r"""Signal-to-noise ratio :math:`\sqrt{|E g|^2 / \mathrm{tr}\, S}` by part; NaN: not resolved."""
        return {part: _root_ratio(self.mean_square[part], self.variance[part]) for part in self.variance}

    @property
    def relative_variance(self) -> dict[str, float]:
        r""":math:`\mathrm{tr}\, S / |E g|^2` by part; NaN: not resolved."""
        return {part: _relative(self.variance[part], self.mean_square[part]) for part in self.variance}


def gradient_moments(
    model: nn.Module,
    estimator: Estimator,
    batch: Batch,
    *,
    draws: int = 100,
    key: int = 0,
    method: str = "auto",
    chunk: int | None = None,
) -> GradientMoments:
    r"""Variance and mean of the minibatch-mean gradient over fresh noise.

    .. math:: g = \nabla \tfrac1B \textstyle\sum_b \text{surrogate}_b

    The parameters, the batch and the estimator's own parameters are held fixed; nothing that is passed in
    changes, and no global random state is used. Sums are float64, in one pass; memory does not grow with n.

    Args:
        model: encoder, decoder and prior.
        estimator: any estimator; a surrogate ``[B]`` is averaged, a surrogate ``[]`` taken as it is.
        batch: one minibatch.
        draws: n, at least 2.
        key: draw i is a function of (key, i), the same under every method.
        method: ``vmap`` (many draws at a time), ``loop`` (one backward pass a draw) or ``auto``: vmap where
            a draw is small, unless the estimator keeps state, cannot be vmapped or then differs.
        chunk: draws at a time under vmap; None: by a fixed memory budget. It changes last bits only.

    Raises:
        ValueError: unknown method, fewer than 2 draws, or a model without trainable parameters.

    Source: Mohamed, Rosca, Figurnov & Mnih (2020), Monte Carlo Gradient Estimation in Machine Learning,
    arXiv:1906.10652, section 3 (variance beside cost).
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown, expected {', '.join(METHODS)}")
    if draws < 2:
        raise ValueError(f"a variance needs at least 2 draws, not {draws}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is at least 1, not {chunk}")
    start = time.perf_counter()
    source = GradientDraws(model, estimator, batch, draws, key, chunk)
    sums = VectorMoments(source.parts)
    for rows in source.rows(method):
        sums.add(rows)
    spread = sums.spread()
    sizes = [p.numel() for p in source.parameters.values()]
    pieces = zip(source.parameters.items(), torch.split(sums.mean, sizes), strict=True)
    return GradientMoments(
        variance={part: s.variance for part, s in spread.items()},
        std_error={part: s.std_error for part, s in spread.items()},
        mean_square={part: s.mean_square for part, s in spread.items()},
        mean={name: piece.view_as(parameter) for (name, parameter), piece in pieces},
        draws=draws,
        evaluations=source.evaluations,
        seconds=time.perf_counter() - start,
        seconds_per_gradient=source.seconds,
        method=source.method,
    )


def gradient_measurements(
    model: nn.Module,
    estimator: Estimator,
    batches: Iterable[Batch],
    draws: int = 100,
    key: int = 0,
    method: str = "auto",
) -> list[Measurement]:
    r"""Gradient metrics over fixed batches, for each part of the model.

    * ``gradient_variance``: noise, the mean over batches of tr S, nats^2; its error is of the draws alone.
    * ``gradient_variance_data`` (two batches or more): :math:`\mathrm{tr}\, \mathrm{Cov}_{batch}(E g)`,
      unbiased: spread of the batches' mean gradients less noise / n; nats^2, may be negative. Its
      error needs three batches.
    * ``gradient_norm``: root of the mean over batches of :math:`|E g|^2`, nats.
    * ``gradient_snr``, ``gradient_relative_variance``: of mean square and variance, each pooled over batches.
    * ``work_normalized_variance``: noise x median seconds of one plain forward and backward pass, nats^2 s
      (error: the variance's). Machine-free: ``function_evaluations``, the decoder's per datum and gradient.

    NaN is "not resolved": the mean square is not above its own noise.

    Args:
        model: as in :func:`gradient_moments`.
        estimator: likewise.
        batches: fixed minibatches, the same for all estimators that are to be compared.
        draws: n, at each batch.
        key: batch b has its own draws, a function of (key, b).
        method: as in :func:`gradient_moments`.

    Raises:
        ValueError: no batch, or as :func:`gradient_moments`.

    Source: Rainforth et al. (2018), Tighter Variational Bounds Are Not Necessarily Better, arXiv:1802.04537
    (signal-to-noise ratio); Glynn & Whitt (1992), The Asymptotic Efficiency of Simulation Estimators,
    doi:10.1287/opre.40.3.505 (variance x time).
    """
    found, across = [], None
    for number, batch in enumerate(batches):
        moments = gradient_moments(
            model, estimator, batch, draws=draws, key=derive("batch", key, number), method=method
        )
        flat = torch.cat([piece.flatten() for piece in moments.mean.values()])
        across = across or VectorMoments(part_ranges(moments.mean))
        across.add(flat[None])
        found.append(moments)
    if across is None:
        raise ValueError("gradients need at least one batch")
    n = draws * len(found)
    result = [Measurement("function_evaluations", "all", found[0].evaluations, None, None, "1")]
    for part in found[0].variance:
        result += _part_measurements(found, part, n)
    if len(found) > 1:
        result += _data_measurements(found, across, n)
    return result


def _part_measurements(found: Sequence[GradientMoments], part: str, n: int) -> list[Measurement]:
    count = len(found)
    variance = sum(m.variance[part] for m in found) / count
    error = math.sqrt(sum(m.std_error[part] ** 2 for m in found)) / count
    square = sum(m.mean_square[part] for m in found) / count
    seconds = sum(m.seconds_per_gradient for m in found) / count
    norm = math.sqrt(square) if square > 0 else math.nan
    return [
        Measurement("gradient_variance", part, variance, error, n, "nats^2"),
        Measurement("gradient_norm", part, norm, None, n, "nats"),
        Measurement("gradient_snr", part, _root_ratio(square, variance), None, n, "1"),
        Measurement("gradient_relative_variance", part, _relative(variance, square), None, n, "1"),
        Measurement("work_normalized_variance", part, variance * seconds, error * seconds, n, "nats^2 s"),
    ]


def _data_measurements(found: Sequence[GradientMoments], across: VectorMoments, n: int) -> list[Measurement]:
    result = []
    for part, spread in across.spread().items():
        noise = sum(m.variance[part] / m.draws for m in found) / len(found)
        error = spread.std_error if len(found) > 2 else None
        value = spread.variance - noise
        result.append(Measurement("gradient_variance_data", part, value, error, n, "nats^2"))
    return result


def _root_ratio(square: float, variance: float) -> float:
    if not square > 0:
        return math.nan
    return math.sqrt(square / variance) if variance > 0 else math.inf


def _relative(variance: float, square: float) -> float:
    return variance / square if square > 0 else math.nan


def adapt(
    model: nn.Module, estimator: Estimator, batches: Iterable[Batch], steps: int, key: int, lr: float = 1e-3
) -> None:
    """Warm up what an estimator adapts (baseline, critic, temperature), the model held fixed.

    Adam on minus the mean surrogate, in the estimator's own parameters alone, in place. Without such
    parameters nothing happens and no batch is taken.

    Args:
        model: not changed; a copy of it is used.
        estimator: its trainable parameters move.
        batches: one for each step; other ones than those measured on.
        steps: at most; fewer where the batches end.
        key: of all noise.
        lr: learning rate, unless the estimator has its own ``lr``.
    """
    own = [p for p in estimator.parameters() if p.requires_grad]
    if not own or steps < 1:
        return
    held = copy.deepcopy(model)
    kept = [p.grad for p in own]
    optimizer = torch.optim.Adam(own, lr=getattr(estimator, "lr", None) or lr)
    for step, batch in zip(range(steps), batches, strict=False):
        rng = Rng(derive("adapt", key, step), batch.x.device)
        with torch.enable_grad():
            loss = -estimator(held, batch, rng).surrogate.mean()
            gradients = torch.autograd.grad(loss, own, allow_unused=True)
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for parameter, before in zip(own, kept, strict=True):
        parameter.grad = before
