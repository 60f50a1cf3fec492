r"""Intervals and tests for paired comparisons: log ratios and differences, one per seed.

A ratio of variances is compared on the log scale, where the delta method gives the error of each,
:math:`\mathrm{se}(\log v) \approx \mathrm{se}(v) / v`. Chi-square intervals have the wrong coverage at any n, since
gradients are not normal.

Source: Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6,
65-70; Schuirmann (1987), A comparison of the two one-sided tests procedure, doi:10.1007/BF01068419.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALPHA",
    "SEEDS_LEAST",
    "Basis",
    "Effect",
    "effect_of",
    "holm",
    "seeds_needed",
    "sign_flip",
    "welch",
]

ALPHA: Final = 0.05
SEEDS_LEAST: Final = 6  # 5 signs can reach 2 / 2^5 = .06 at best
Basis = Literal["seeds", "draws", "none"]

_FLIPS = 9999  # every pattern of signs up to 13 seeds, a sample of them beyond


@dataclass(frozen=True)
class Effect:
    """A mean difference (or log ratio) with its error.

    Attributes:
        estimate: mean over seeds.
        std_error: of ``estimate``; NaN where nothing tells it.
        df: degrees of freedom of ``std_error``.
        basis: ``seeds`` (spread over seeds: Monte Carlo error and what differs between seeds), ``draws`` (Monte Carlo
            error alone: it says nothing of other seeds) or ``none``.
        mc_std_error: what Monte Carlo error alone gives for the mean.
        between_sd: spread between seeds beyond Monte Carlo error; NaN for one seed.
    """

    estimate: float
    std_error: float = math.nan
    df: float = math.nan
    basis: Basis = "none"
    mc_std_error: float = math.nan
    between_sd: float = math.nan

    def interval(self) -> tuple[float, float]:
        """The 95% t-interval."""
        from scipy import stats

        half = float(stats.t.ppf(1 - ALPHA / 2, self.df)) * self.std_error
        return self.estimate - half, self.estimate + half

    def p(self) -> float:
        """Two-sided t-test that there is no difference."""
        return 2 * self._tail(abs(self.estimate))

    def p_equivalence(self, margin: float) -> float:
        """Two one-sided tests that the difference is ``margin`` or more in size: small says it is within."""
        return max(self._tail(margin - self.estimate), self._tail(margin + self.estimate))

    def _tail(self, distance: float) -> float:
        """P(T > distance / std_error); a difference without any spread is known exactly."""
        from scipy import stats

        if self.std_error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(stats.t.sf(distance / self.std_error, self.df))


def effect_of(differences: ArrayLike, errors: ArrayLike, dfs: ArrayLike) -> Effect:
    """The mean of one difference per seed.

    With two seeds or more its error is their spread, which holds whatever the Monte Carlo error is; with one it is the
    Monte Carlo error alone, where that is known.

    Args:
        differences: one per seed, each of two measurements at the same seed.
        errors: Monte Carlo error of each; NaN: not known.
        dfs: its degrees of freedom; infinite for a normal error.
    """
    d, m = np.asarray(differences, float), np.asarray(errors, float)
    mean, count = float(d.mean()), len(d)
    mc = float(np.sqrt((m**2).sum())) / count
    if count == 1:
        return Effect(mean, mc, float(np.asarray(dfs)[0]), "none" if math.isnan(mc) else "draws", mc)
    variance = float(d.var(ddof=1))
    between = math.sqrt(max(0.0, variance - float((m**2).mean()))) if not math.isnan(mc) else math.nan
    return Effect(mean, math.sqrt(variance / count), count - 1, "seeds", mc, between)


def welch(error: ArrayLike, n: ArrayLike, other: ArrayLike, other_n: ArrayLike) -> NDArray[np.float64]:
    """Degrees of freedom of ``hypot(error, other)``, each error with n - 1 of its own.

    Two errors count as independent. Estimators that share their draws have positively correlated errors as a rule, and
    the sum is then too large, not too small; records hold no covariance.

    Source: Welch (1947), The generalization of 'Student's' problem, doi:10.1093/biomet/34.1-2.28.
    """
    e, f, n, m = (np.asarray(x, float) for x in (error, other, n, other_n))
    parts = e**4 / np.maximum(n - 1, 1) + f**4 / np.maximum(m - 1, 1)
    df: NDArray[np.float64] = np.divide((e**2 + f**2) ** 2, parts, out=np.full(parts.shape, np.inf), where=parts != 0)
    return df


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p of the mean when every difference could as well have the other sign."""
    from scipy import stats

    return float(
        stats.permutation_test(
            (np.asarray(differences, float),),
            lambda x, axis: x.mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=_FLIPS,
            rng=np.random.default_rng(0),
        ).pvalue
    )


def seeds_needed(comparisons: int) -> int:
    r"""The least n for which n signs can reach 5% after Holm over so many comparisons: :math:`2 m / 2^n \le .05`."""
    return math.ceil(math.log2(2 * comparisons / ALPHA))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values; NaN (no test was made) stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, float)
    adjusted = np.full(raw.shape, np.nan)
    order = [i for i in np.argsort(raw) if not np.isnan(raw[i])]
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if order else steps
    return adjusted
