r"""Moments of a minibatch gradient from those of its data, where data do not interact.

.. math:: \mathrm{tr\,Cov}\Big(\tfrac1B \sum_b g_b\Big) = \tfrac1{B^2} \sum_b \mathrm{tr\,Cov}(g_b)

The draws of a datum's gradient :math:`g_b` enter by their inner products alone, which come from layers' inputs and
output gradients (:mod:`vbench.measure.taps`), in passes of S draws for each of C data (:mod:`vbench.measure.lanes`).
What is gained at equal time is a property of the estimator: much where the data's gradients share directions (then
:math:`|g|^2` of a minibatch scatters, and the sum over data does not), nothing where one datum's own
:math:`|g_b|^2` scatters so widely that this is all there is.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor

from vbench.batches import rows
from vbench.measure.accumulate import DatumSums, Spread
from vbench.measure.draws import GradientDraws, agree
from vbench.measure.lanes import LaneGradients, Lanes
from vbench.measure.replay import DatumRng, ReplayingRng
from vbench.rng import derive
from vbench.types import Batch

__all__ = ["DatumMoments", "UnservedError", "datum_moments"]

_LOOSE: Final = 2**12  # scalars of which every lane may have a copy
_BUDGET: Final = 2**23  # scalars of layers' inputs, output gradients and decoder outputs held at a time
_HALVES: Final = (17, 13, 11, 7, 5, 3)  # draws of a datum in half a pass: primes
_ROWS: Final = 50  # draws x samples of a datum in a pass: inner products cost their square
_NOTHING: Final = 1e-12  # of the second moment: a gradient without noise, in float64
_FREEDOM: Final = 64  # degrees of freedom of an error, at least


class UnservedError(ValueError):
    """Why gradients cannot be measured datum by datum."""


class DatumMoments(NamedTuple):
    """What all draws of all data tell of the minibatch-mean gradient.

    Attributes:
        spread: by part.
        data: by part, the trace of Cov_x E[g given x] / B, unbiased; empty where data were not told apart.
        mean: by parameter, float64.
        draws: how many.
        blocks: independent means of the flat gradient ``[J, P]``, float64, where they were asked for.
    """

    spread: dict[str, Spread]
    data: dict[str, float]
    mean: dict[str, Tensor]
    draws: int
    blocks: Tensor | None = None


def datum_moments(source: GradientDraws, key: int, blocks: int = 0) -> DatumMoments:
    """Moments at the batch and of the system of ``source``, from at least as many draws.

    Args:
        source: what is measured.
        key: draws of the datum in place b are a function of (key, b).
        blocks: independent means to tell; fewer where draws are few.

    Raises:
        UnservedError: data interact; or parameters are used in ways that lanes do not follow; or draws or data are
            too few for an error; or the noise is too small beside the gradient to be told from rounding.
    """
    size = len(source.batch.x)
    _plan(len(source.keys), size, 0)  # before anything is run
    lanes, probe = _guarded(source)
    lane = probe.held + 4 * source.evaluations * source.batch.x[0].numel()
    half, groups = _plan(len(source.keys), size, min(_ROWS // probe.rows, _BUDGET // lane), blocks)
    sums = DatumSums(size)
    totals = [
        {n: torch.zeros_like(p, dtype=torch.float64) for n, p in source.parameters.items()}
        for _ in range(min(max(2, blocks), groups))
    ]
    for group in range(groups):
        own: dict[str, list[Tensor]] = {piece: [] for piece in source.pieces}
        cross: dict[str, list[Tensor]] = {piece: [] for piece in source.pieces}
        for start, some in _cut(source.batch, max(1, _BUDGET // (lane * 2 * half))):
            keys = [derive("datum", key, group, start + b) for b in range(len(some.x))]
            found = lanes(some, 2 * half, partial(DatumRng, keys=keys, half=half, device=some.x.device))
            for piece in source.pieces:
                own[piece].append(found.own[piece])
                cross[piece].append(found.cross[piece])
            for name, value in found.totals.items():
                totals[group % len(totals)][name] += (
                    value.double()
                )  # an addition of mixed types is several times as slow
        sums.add({piece: torch.cat(v) for piece, v in own.items()}, {piece: torch.cat(v) for piece, v in cross.items()})
    result = _result(source, sums, totals, half, groups)
    return result if blocks else result._replace(blocks=None)


def _plan(draws: int, size: int, most: int, blocks: int = 0) -> tuple[int, int]:
    """Half the draws of a datum in a group of at most so many, and how many groups: one for each block, if possible."""
    least = min(blocks, -(-draws // (2 * _HALVES[-1])))
    for half in _HALVES:
        groups = -(-draws // (2 * half))
        if groups < least:
            continue
        if (2 * half <= most or half == _HALVES[-1]) and size > 1 < groups and (groups - 1) * size >= _FREEDOM:
            return half, groups
    raise UnservedError(f"{draws} draws of {size} data are too few for an error")


def _result(
    source: GradientDraws, sums: DatumSums, totals: list[dict[str, Tensor]], half: int, groups: int
) -> DatumMoments:
    size = len(source.batch.x)
    counts = [2 * half * size * len(range(i, groups, len(totals))) for i in range(len(totals))]
    means = [torch.cat([t.flatten() for t in total.values()]) / n for total, n in zip(totals, counts, strict=True)]
    flat = cast(Tensor, sum(n * mean for n, mean in zip(counts, means, strict=True))) / sum(counts)
    resolution = 100 * torch.finfo(next(iter(source.parameters.values())).dtype).eps
    spread, data = {}, {}
    for part, found in sums.spread().items():
        variance, error = found.variance / size**2, found.std_error / size**2
        if abs(found.variance) <= _NOTHING * found.second:
            variance = error = 0.0
        elif found.variance < resolution * found.second:
            raise UnservedError(f"the noise of {part} is hardly above the rounding of its gradients")
        where = source.parts[part]
        # independent of each other: unbiased
        square = statistics.fmean(float(one[where].dot(other[where])) for one, other in combinations(means, 2))
        spread[part] = Spread(variance, error, square)
        data[part] = (found.mean_square / size - square) / (size - 1)
    pieces = torch.split(flat, [p.numel() for p in source.parameters.values()])
    mean = {name: piece.view_as(p) for (name, p), piece in zip(source.parameters.items(), pieces, strict=True)}
    return DatumMoments(spread, data, mean, 2 * half * groups, torch.stack(means))


def _cut(batch: Batch, most: int) -> Iterator[tuple[int, Batch]]:
    """The batch in equal pieces of at most so many data, each with the place of its first."""
    size = len(batch.x)
    data = -(-size // -(-size // most))
    for start in range(0, size, data):
        yield start, rows(batch, slice(start, start + data))


def _guarded(source: GradientDraws) -> tuple[Lanes, LaneGradients]:
    """Lanes that were seen to do what the batch does: given its random numbers, their gradients sum up to its own.

    That fails where data interact or share random numbers, and where a weight acts in ways that no tap sees (tied,
    masked, normalised weights, recurrent layers). Repeated draws must repeat, else the estimator keeps a state.
    """
    system, batch = source.system, source.batch
    for name, part in [("the estimator", system.estimator), *system.model.named_children()]:
        if getattr(part, "coupled", False):
            raise UnservedError(f"{name} declares coupled data")
    first, _, again = source.rehearsal()
    if not agree(again, first):
        raise UnservedError("the same key gives another draw the second time")
    lanes = Lanes(system, source.owners)
    if lanes.loose > _LOOSE:
        raise UnservedError(f"{lanes.loose} parameters lie outside of plain linear and convolutional layers")
    try:
        with warnings.catch_warnings():
            # vmap loops over operators that it does not know, slower than we do
            warnings.filterwarnings("error", message=".*performance drop")
            found = lanes(batch, 1, partial(ReplayingRng, drawn=source.drawn, data=len(batch.x)))
    except Exception as error:
        raise UnservedError(f"data do not run one by one: {str(error).splitlines()[0]}") from error
    sizes = [p.numel() for p in source.parameters.values()]
    for name, own in zip(source.parameters, torch.split(first, sizes), strict=True):
        total = found.totals[name].flatten() if name in found.totals else torch.zeros_like(own)
        # a parameter whose gradient all but vanishes is held against the size of the whole
        if not agree(total / len(batch.x), own, floor=1e-3 * float(first.norm())):
            raise UnservedError(f"the data's gradients of {name} do not sum up to the batch's")
    return lanes, found
