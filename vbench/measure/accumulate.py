"""Sums that measures keep while draws stream by: float64, one pass, memory flat in the number of draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

__all__ = ["PILOT", "DatumSpread", "DatumSums", "Spread", "VectorMoments", "WeightSums", "grouped", "spans"]

PILOT: Final = 16


def grouped(pieces: Iterable[str]) -> dict[str, list[str]]:
    """Everything that moments are told of -> the pieces that it is made of: ``all``, each part, each layer of a part.

    >>> grouped(["encoder.net", "encoder.out", "prior"])["encoder"]
    ['encoder.net', 'encoder.out']
    """
    found: dict[str, list[str]] = {}
    for piece in pieces:
        for name in dict.fromkeys(("all", piece.split(".")[0], piece)):
            found.setdefault(name, []).append(piece)
    return found


def spans(pieces: Mapping[str, slice]) -> dict[str, slice]:
    """Their ranges of coordinates, from those of the pieces, of which those of one part lie together."""
    return {name: slice(pieces[of[0]].start, pieces[of[-1]].stop) for name, of in grouped(pieces).items()}


class Spread(NamedTuple):
    """First and second moments of some coordinates of a random vector.

    Attributes:
        variance: trace of the sample covariance (n - 1).
        std_error: of ``variance``.
        mean_square: unbiased squared norm of the expectation, ``|mean|^2 - variance / n``; may be negative.
    """

    variance: float
    std_error: float
    mean_square: float


class VectorMoments:
    r"""Mean and covariance trace of vectors ``[P]``, for named ranges of coordinates and what they are grouped to.

    Rows are shifted by the mean c of the first 16: a small spread around a large mean loses no digits.

    .. math:: \mathrm{tr}\, S = \frac{\sum_i |g_i - c|^2 - \frac1n |\sum_i (g_i - c)|^2}{n - 1}, \qquad
       \mathrm{se} = \mathrm{sd}(t_i) / \sqrt n, \quad t_i = |g_i - c|^2

    The standard error is slightly conservative: c is not the final mean, so :math:`t_i` also varies with
    :math:`2 (g_i - \mu)^\top (c - \mu)`, of variance :math:`4\, \mathrm{tr}(S^2) / 16` on average (6% more
    standard error for a normal vector). The 16 rows inside c are closer to it and are scaled by 16/15. Only
    :math:`t_i` is kept for each draw.

    Args:
        pieces: name of a part or layer -> range of coordinates; disjoint, and together all of them.
        pilot: how many rows make c, at least 2.
        blocks: means of rows i, i + blocks, ... that are kept besides; 0 for none.

    Source: Chan, Golub & LeVeque (1983), Algorithms for Computing the Sample Variance,
    doi:10.1080/00031305.1983.10483115.
    """

    def __init__(self, pieces: Mapping[str, slice], pilot: int = PILOT, blocks: int = 0) -> None:
        self.pieces = dict(pieces)
        self.count = 0
        self._block_sums: list[Tensor | None] = [None] * blocks
        self._pilot = pilot
        self._waiting: list[Tensor] = []
        self._shift: Tensor | None = None
        self._sum = self._row = torch.zeros((), dtype=torch.float64)
        self._squares: list[Tensor] = []  # t_i, each [pieces]

    def add(self, rows: Tensor) -> None:
        """Take rows ``[n, P]``; how they are grouped does not matter, to the last bit."""
        for row in rows.detach():
            self.count += 1
            if self._shift is not None:
                self._take(row, self._shift)
                continue
            self._waiting.append(row.clone())
            if len(self._waiting) == self._pilot:
                self._start()

    def _start(self) -> Tensor:
        waiting, self._waiting = self._waiting, []
        self._pilot = len(waiting)
        total = torch.zeros_like(waiting[0], dtype=torch.float64)
        for row in waiting:
            total += row
        self._shift = shift = total / len(waiting)
        self._sum, self._row = torch.zeros_like(total), torch.empty_like(total)
        for row in waiting:
            self._take(row, shift)
        return shift

    def _take(self, row: Tensor, shift: Tensor) -> None:
        # copy, then subtract in place: several times as fast as one subtraction of mixed types
        shifted = self._row.copy_(row).sub_(shift)
        self._sum += shifted
        if self._block_sums:
            place = len(self._squares) % len(self._block_sums)
            before = self._block_sums[place]
            self._block_sums[place] = shifted.clone() if before is None else before.add_(shifted)
        self._squares.append(torch.stack([shifted[piece].dot(shifted[piece]) for piece in self.pieces.values()]))

    @property
    def mean(self) -> Tensor:
        """Sample mean ``[P]``, float64."""
        shift = self._start() if self._shift is None else self._shift
        return shift + self._sum / self.count

    @property
    def block_means(self) -> Tensor:
        """Independent means ``[blocks, P]``, fewer where fewer rows came; float64."""
        shift, n = self._start() if self._shift is None else self._shift, len(self._block_sums)
        sums = [total for total in self._block_sums if total is not None]
        return torch.stack([shift + total / len(range(i, self.count, n)) for i, total in enumerate(sums)])

    def spread(self) -> dict[str, Spread]:
        """Moments of ``all``, of each part and of each layer, in the squared unit of the rows.

        Raises:
            ValueError: fewer than two rows came.
        """
        n = self.count
        if n < 2:
            raise ValueError(f"a variance needs at least two rows, not {n}")
        mean, places = self.mean, {name: place for place, name in enumerate(self.pieces)}
        each = torch.stack(self._squares)  # [n, pieces]
        columns = [each[:, [places[piece] for piece in of]].sum(1) for of in grouped(self.pieces).values()]
        squares = torch.stack(columns, 1)
        fair = squares.clone()
        fair[: self._pilot] *= self._pilot / (self._pilot - 1)
        errors = fair.std(0) / n**0.5
        spread = {}
        for column, (name, part) in enumerate(spans(self.pieces).items()):
            offset = self._sum[part]
            variance = (squares[:, column].sum() - offset.dot(offset) / n).clamp(min=0) / (n - 1)
            square = mean[part].dot(mean[part]) - variance / n
            spread[name] = Spread(float(variance), float(errors[column]), float(square))
        return spread


class DatumSpread(NamedTuple):
    """Moments of independent random vectors, one for each datum, summed over the data.

    Attributes:
        variance: sum of the traces of their covariances, unbiased.
        std_error: of ``variance``.
        mean_square: sum of the squared norms of their expectations, unbiased; may be negative.
        second: sum of the expectations of their squared norms.
    """

    variance: float
    std_error: float
    mean_square: float
    second: float


class DatumSums:
    r"""Moments of each datum's gradient, group by group; a group has two independent halves of h draws.

    With :math:`q` the mean of :math:`|g|^2` over the group and :math:`\bar g_1, \bar g_2` the means of its halves,

    .. math:: q - \bar g_1^\top \bar g_2, \qquad \bar g_1^\top \bar g_2

    are unbiased for the trace of the covariance and for the squared norm of the mean, whatever the dependence
    within a half. Groups are independent, so their spread for each datum is the error, with
    (groups - 1) x (number of data) degrees of freedom.

    Args:
        size: number of data.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._groups = 0
        self._first: dict[str, Tensor] = {}  # the first group's variances, [size]
        self._sums: dict[str, Tensor] = {}  # [4, size]: variance and its square less the first, squared mean, second

    def add(self, own: Mapping[str, Tensor], cross: Mapping[str, Tensor]) -> None:
        """Take a group of draws: part or layer -> ``[size, 2 h]``, ``[size]``, float64; they add up."""
        self._groups += 1
        for part, pieces in grouped(own).items():
            each, both = (torch.stack([found[piece] for piece in pieces]).sum(0) for found in (own, cross))
            second, square = each.mean(1), both * (4 / each.shape[1] ** 2)
            variance = second - square
            away = variance - self._first.setdefault(part, variance)
            found = torch.stack([away, away.square(), square, second])
            self._sums[part] = self._sums[part] + found if part in self._sums else found

    def spread(self) -> dict[str, DatumSpread]:
        """Moments of ``all``, of each part and of each layer."""
        n, found = self._groups, {}
        for part, sums in self._sums.items():
            away, squares, square, second = sums / n
            error = ((squares - away.square()).clamp(min=0) / (n - 1)).sum().sqrt() if n > 1 else math.nan
            variance = (self._first[part] + away).sum()
            found[part] = DatumSpread(float(variance), float(error), float(square.sum()), float(second.sum()))
        return found


class WeightSums:
    r"""Running :math:`\log \sum_k w_k` and :math:`\log \sum_k w_k^2` of log weights, for each datum."""

    def __init__(self) -> None:
        self.count = 0
        self._first = torch.tensor(-math.inf, dtype=torch.float64)
        self._second = self._first.clone()

    def add(self, log_w: Tensor) -> None:
        """Take log weights ``[k, B]``, nats."""
        log_w = log_w.detach().double()
        self._first = torch.logaddexp(self._first, log_w.logsumexp(0))
        self._second = torch.logaddexp(self._second, (2 * log_w).logsumexp(0))
        self.count += log_w.shape[0]

    @property
    def log_mean(self) -> Tensor:
        r""":math:`\log \frac1K \sum_k w_k`, ``[B]`` float64, nats."""
        return self._first - math.log(self.count)

    @property
    def ess(self) -> Tensor:
        r"""Effective sample size :math:`(\sum w)^2 / \sum w^2`, ``[B]`` float64; NaN where all w are zero."""
        return (2 * self._first - self._second).exp()
