"""Means and intervals against SciPy, and what has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vbench.report import averages

VALUES = [-90.0, -92.0, -97.0]


def test_mean_has_a_t_interval() -> None:
    found = averages.mean(VALUES)
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert found[:3] == pytest.approx((-93, expected.low, expected.high), rel=1e-12)
    assert found.kind == "t over seeds"


def test_geometric_mean_is_the_same_on_logs() -> None:
    found = averages.geometric([4.0, 8.0, 2.0])
    expected = stats.ttest_1samp(np.log([4.0, 8.0, 2.0]), 0).confidence_interval(0.95)
    assert found[:3] == pytest.approx((4.0, math.exp(expected.low), math.exp(expected.high)), rel=1e-12)


@pytest.mark.parametrize("average", [averages.mean, averages.geometric])
def test_one_seed_has_no_interval_over_seeds(average) -> None:
    value, low, high, kind = average([3.0])
    assert value == pytest.approx(3.0)
    assert math.isnan(low)
    assert math.isnan(high)
    assert kind == ""


def test_a_variance_of_zero_is_kept_and_a_negative_one_has_no_geometric_mean() -> None:
    assert averages.geometric([0.0, 2.0]).value == 0
    assert math.isnan(averages.geometric([-1.0, 2.0]).value)


def test_one_variance_by_the_delta_method_on_the_log_scale() -> None:
    found = averages.log_delta(10.0, 1.0, 100)
    half = stats.t.ppf(0.975, 99) * 0.1
    assert found[:3] == pytest.approx((10, 10 * math.exp(-half), 10 * math.exp(half)))


def test_one_mean_over_data() -> None:
    found = averages.over_data(-90.0, 0.5, 50)
    half = stats.t.ppf(0.975, 49) * 0.5
    assert found[:3] == pytest.approx((-90, -90 - half, -90 + half))


@pytest.mark.parametrize("single", [averages.log_delta, averages.over_data])
@pytest.mark.parametrize(("error", "n"), [(math.nan, 100), (0.1, 0), (0.1, 1)], ids=["no error", "no n", "one draw"])
def test_without_an_error_there_is_no_interval(single, error: float, n: int) -> None:
    found = single(2.0, error, n)
    assert found.value == 2
    assert math.isnan(found.low)
    assert found.kind == ""
