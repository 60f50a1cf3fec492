"""The statistics against figures worked out by hand, and against what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from vbench.report.intervals import Effect, effect_of, holm, seeds_needed, sign_flip, welch


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .20, times 4 3 2 1, running maximum
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []


def test_holm_counts_the_tests_that_were_made() -> None:
    adjusted = holm([0.02, math.nan, 0.04])
    assert adjusted[[0, 2]] == pytest.approx([0.04, 0.04])
    assert math.isnan(adjusted[1])
    assert np.isnan(holm([math.nan])).all()


def test_seeds_make_a_t_interval() -> None:
    differences = [0.3, -0.1, 0.5, 0.7]
    effect = effect_of(differences, [math.nan] * 4, [math.inf] * 4)
    reference = stats.ttest_1samp(differences, 0)
    assert effect.p() == pytest.approx(reference.pvalue)
    assert effect.interval() == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert effect.basis == "seeds"
    assert math.isnan(effect.between_sd)


def test_one_seed_has_its_monte_carlo_error_alone() -> None:
    effect = effect_of([0.5], [0.2], [10])
    assert effect.basis == "draws"
    assert effect.interval() == pytest.approx((0.5 - 2.228139 * 0.2, 0.5 + 2.228139 * 0.2), rel=1e-6)  # t(.975, 10)
    without = effect_of([0.5], [math.nan], [10])
    assert without.basis == "none"
    assert math.isnan(without.p())
    assert math.isnan(without.p_equivalence(0.1))
    assert np.isnan(without.interval()).all()


def test_error_is_split_between_draws_and_seeds() -> None:
    effect = effect_of([0.1, 0.5, 0.9], [0.1, 0.2, 0.2], [100] * 3)
    assert effect.std_error == pytest.approx(0.4 / math.sqrt(3))
    assert effect.mc_std_error == pytest.approx(0.3 / 3)
    assert effect.between_sd == pytest.approx(math.sqrt(0.16 - 0.09 / 3))
    assert effect_of([0.1, 0.1001], [0.1, 0.1], [100, 100]).between_sd == 0


def test_equivalence_is_both_one_sided_tests() -> None:
    x = np.array([0.02, -0.01, 0.03, 0.01, 0.0])
    effect = effect_of(x, [0.0] * 5, [1] * 5)
    one_sided = (
        stats.ttest_1samp(x, 0.1, alternative="less").pvalue,
        stats.ttest_1samp(x, -0.1, alternative="greater").pvalue,
    )
    assert effect.p_equivalence(0.1) == pytest.approx(max(one_sided))
    # the same as: the 90% interval lies inside
    assert (effect.p_equivalence(0.03) < 0.05) == (
        np.abs(stats.t.interval(0.9, 4, x.mean(), stats.sem(x))) < 0.03
    ).all()


def test_no_spread_is_no_division_by_zero() -> None:
    same, apart = Effect(0.0, 0.0, 2, "seeds"), Effect(0.5, 0.0, 2, "seeds")
    assert (same.p(), same.p_equivalence(0.1), same.interval()) == (1.0, 0.0, (0.0, 0.0))
    assert (apart.p(), apart.p_equivalence(0.1)) == (0.0, 1.0)


def test_sign_flips_by_enumeration() -> None:
    x = np.array([0.4, 1.1, -0.2, 0.9, 0.3, 0.6])
    means = [np.mean(x * signs) for signs in itertools.product((1, -1), repeat=6)]
    assert sign_flip(x) == pytest.approx(np.mean(np.abs(means) >= abs(x.mean()) - 1e-12))
    assert sign_flip(abs(x)) == pytest.approx(2 / 2**6)  # the least that six seeds can reach
    assert sign_flip(np.zeros(6)) == 1


def test_sign_flips_are_repeatable_beyond_what_can_be_enumerated() -> None:
    x = np.random.default_rng(3).normal(0.4, 1, 20)
    assert sign_flip(x) == sign_flip(x)
    assert sign_flip(x) == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.02)


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 6), (2, 7), (5, 8), (10, 9)])
def test_seeds_that_signs_need(comparisons: int, seeds: int) -> None:
    assert seeds_needed(comparisons) == seeds
    assert comparisons * 2 / 2**seeds <= 0.05 < comparisons * 2 / 2 ** (seeds - 1)


def test_welch_by_hand() -> None:
    assert welch([0.3], [11], [0.4], [21])[0] == pytest.approx(0.25**2 / (0.0081 / 10 + 0.0256 / 20))
    assert welch([0.0], [11], [0.0], [21])[0] == math.inf
    assert welch([0.3], [math.inf], [0.0], [21])[0] == math.inf


def skewed_variances(rng: np.random.Generator, shape: tuple[int, ...], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances of mean 1 and their standard errors, each from so many squared norms, skewed like gradients'."""
    squares = rng.lognormal(-0.5, 1.0, (*shape, draws))
    return squares.mean(-1), squares.std(-1, ddof=1) / math.sqrt(draws)


def test_the_interval_of_draws_covers_the_checkpoint_and_no_more() -> None:
    rng = np.random.default_rng(11)
    v, se = skewed_variances(rng, (500, 2), 400)
    apart = rng.normal(0, 0.3, 500)  # what differs between checkpoints
    log_v, relative = np.log(v), se / v
    d = log_v[:, 0] - log_v[:, 1] + apart
    errors = np.hypot(relative[:, 0], relative[:, 1])
    found = [effect_of([x], [e], [800.0]).interval() for x, e in zip(d, errors, strict=True)]
    low, high = np.array(found).T
    assert 0.93 < np.mean((low < apart) & (apart < high)) < 0.97
    assert np.mean((low < 0) & (high > 0)) < 0.7  # no claim about other seeds: the reason why the table says which


def test_the_interval_of_seeds_covers_the_model() -> None:
    rng = np.random.default_rng(12)
    v, se = skewed_variances(rng, (500, 5, 2), 400)
    checkpoint = rng.normal(0, 2, (500, 5, 1))
    interaction = rng.normal(0, 0.2, (500, 5, 2))
    log_v = np.log(v) + checkpoint + interaction + np.array([math.log(3.0), 0.0])
    errors = np.hypot(*np.moveaxis(se / v, -1, 0))
    found = [
        effect_of(d, e, [800.0] * 5).interval() for d, e in zip(log_v[..., 0] - log_v[..., 1], errors, strict=True)
    ]
    low, high = np.array(found).T
    assert 0.93 < np.mean((low < math.log(3)) & (math.log(3) < high)) < 0.97
