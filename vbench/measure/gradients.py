"""Moments of a gradient estimator at fixed parameters: variance, signal, and what they cost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vbench.measure.accumulate import VectorMoments
from vbench.measure.draws import METHODS, GradientDraws
from vbench.measure.evaluations import decoder_evaluations
from vbench.measure.moments import DatumMoments, UnservedError, datum_moments
from vbench.rng import Rng, derive
from vbench.types import Batch, Estimator

__all__ = ["GradientMoments", "adapt", "gradient_moments", "relative", "root_ratio"]


@dataclass(frozen=True)
class GradientMoments:
    r"""What n draws tell of a minibatch gradient g, the parameters and the batch held fixed.

    Mappings are by part: ``all`` (the model's trainable parameters, never the estimator's own), ``encoder``,
    ``decoder``, ``prior``, and where they were asked for their layers (``encoder.net.0``); a part without trainable
    parameters is left out.

    Attributes:
        variance: trace of the covariance of g, unbiased, nats^2. The estimator's noise only.
        std_error: of ``variance``. Its interval is :math:`v \exp(\pm t_{n-1}\, \mathrm{se} / v)`; one by
            chi-square has the wrong coverage at any n.
        mean_square: unbiased :math:`|E g|^2`, nats^2: :math:`|\bar g|^2 - v / n`, or the inner product of the means of
            two independent halves; may be negative.
        variance_data: trace of :math:`\mathrm{Cov}_x\, E[g | x] / B`, what other data in the batch would add, nats^2,
            unbiased, may be negative; empty where data were not measured one by one.
        mean: sample mean by parameter name, float64.
        size: how many scalars.
        draws: n; ``moments`` rounds up what was asked for to whole groups.
        evaluations: decoder evaluations per datum and draw, counted; an encoder's own are among them.
        seconds: wall time of the whole measurement.
        seconds_per_gradient: median wall time of one plain forward and backward pass, whatever the method.
        method: the method used, ``moments``, ``vmap`` or ``loop``.
        blocks: independent means of the flat gradient ``[J, P]``, float64; empty unless asked for.
        parts: the range of each in a flat gradient.
    """

    variance: Mapping[str, float]
    std_error: Mapping[str, float]
    mean_square: Mapping[str, float]
    variance_data: Mapping[str, float]
    mean: Mapping[str, Tensor] = field(repr=False, compare=False)
    size: Mapping[str, int]
    draws: int
    evaluations: float
    seconds: float
    seconds_per_gradient: float
    method: str
    blocks: Tensor = field(default_factory=lambda: torch.empty(0, 0), repr=False, compare=False)
    parts: Mapping[str, slice] = field(default_factory=dict, repr=False, compare=False)

    @property
    def snr(self) -> dict[str, float]:
        r"""Signal-to-noise ratio :math:`\sqrt{|E g|^2 / \mathrm{tr}\, S}` by part; NaN: not resolved."""
        return {part: root_ratio(self.mean_square[part], self.variance[part]) for part in self.variance}

    @property
    def relative_variance(self) -> dict[str, float]:
        r""":math:`\mathrm{tr}\, S / |E g|^2` by part; NaN: not resolved."""
        return {part: relative(self.variance[part], self.mean_square[part]) for part in self.variance}


def gradient_moments(
    model: nn.Module,
    estimator: Estimator,
    batch: Batch,
    *,
    draws: int = 100,
    key: int = 0,
    method: str = "auto",
    chunk: int | None = None,
    blocks: int = 0,
    layers: bool = False,
) -> GradientMoments:
    r"""Variance and mean of the minibatch-mean gradient over fresh noise.

    .. math:: g = \nabla \tfrac1B \textstyle\sum_b \text{surrogate}_b

    The parameters, the batch and the estimator's own parameters are held fixed; nothing that is passed in
    changes, and no global random state is used. Sums are float64, in one pass; memory does not grow with n.

    Method ``moments`` measures the gradient of each datum, whose covariances add up: no draw of it is formed, and
    their sum scatters less than the minibatch's own square. It serves independent data and plain linear and
    convolutional layers, with few parameters elsewhere, and finds out by itself: given the same random numbers, the
    gradients of single data must sum up to the batch's.

    Args:
        model: encoder, decoder and prior.
        estimator: any estimator; a surrogate ``[B]`` is averaged, a surrogate ``[]`` taken as it is.
        batch: one minibatch.
        draws: n, at least 2.
        key: draw i is a function of (key, i), the same under ``vmap`` and ``loop``; under ``moments`` the draws of
            datum b are a function of (key, b).
        method: ``moments``, ``vmap`` (many draws at a time), ``loop`` (one backward pass a draw) or ``auto``: moments
            where it serves, else vmap where a draw is small, unless the estimator keeps state, cannot be vmapped or
            then differs.
        chunk: draws at a time under vmap; None: by a fixed memory budget. It changes last bits only.
        blocks: how many independent means to keep besides, each of every so-manieth draw; fewer where draws are few.
        layers: tell of each layer too: the module that holds a weight. What a part holds itself has its own name.

    Raises:
        ValueError: unknown method, fewer than 2 draws, a model without trainable parameters, or one that
            ``moments`` was asked for and does not serve.

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
    source = GradientDraws(model, estimator, batch, draws, key, chunk, layers)
    found, used = _by_datum(source, method, key, blocks), "moments"
    if found is None:
        found, used = _by_draw(source, method, blocks), source.method
    return GradientMoments(
        variance={part: s.variance for part, s in found.spread.items()},
        std_error={part: s.std_error for part, s in found.spread.items()},
        mean_square={part: s.mean_square for part, s in found.spread.items()},
        variance_data=found.data,
        mean=found.mean,
        size={part: where.stop - where.start for part, where in source.parts.items()},
        draws=found.draws,
        evaluations=decoder_evaluations(model, estimator, batch, key),
        seconds=time.perf_counter() - start,
        seconds_per_gradient=source.seconds,
        method=used,
        blocks=torch.empty(0, 0) if found.blocks is None else found.blocks,
        parts=source.parts,
    )


def _by_datum(source: GradientDraws, method: str, key: int, blocks: int) -> DatumMoments | None:
    """None where data cannot be measured one by one and this was not insisted on."""
    if method not in ("auto", "moments"):
        return None
    try:
        return datum_moments(source, key, blocks)
    except UnservedError as reason:
        if method == "moments":
            raise ValueError(f"method 'moments' does not serve this model and estimator: {reason}") from reason
        return None


def _by_draw(source: GradientDraws, method: str, blocks: int) -> DatumMoments:
    """From draws of the whole gradient, which tell nothing of single data."""
    sums = VectorMoments(source.pieces, blocks=blocks)
    for rows in source.rows(method):
        sums.add(rows)
    pieces = torch.split(sums.mean, [p.numel() for p in source.parameters.values()])
    mean = {name: piece.view_as(p) for (name, p), piece in zip(source.parameters.items(), pieces, strict=True)}
    return DatumMoments(sums.spread(), {}, mean, len(source.keys), sums.block_means if blocks else None)


def root_ratio(square: float, variance: float) -> float:
    """Signal-to-noise ratio; NaN where the signal is not resolved."""
    if not square > 0:
        return math.nan
    return math.sqrt(square / variance) if variance > 0 else math.inf


def relative(variance: float, square: float) -> float:
    """Variance over squared mean; NaN where the mean is not resolved."""
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
