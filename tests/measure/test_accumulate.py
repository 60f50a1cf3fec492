import math

import pytest
import torch

from vbench.measure.accumulate import VectorMoments, WeightSums

PARTS = {"left": slice(0, 2), "right": slice(2, 5)}


def moments(rows, groups=1):
    sums = VectorMoments(PARTS)
    for group in rows.split(groups):
        sums.add(group)
    return sums


@pytest.mark.parametrize("n", [2, 3, 15, 16, 17, 40])
def test_moments_are_the_textbook_ones(n):
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(n), dtype=torch.float64) + 3
    sums = moments(rows)
    spread = sums.spread()
    torch.testing.assert_close(sums.mean, rows.mean(0))
    for part, where in {"all": slice(0, 5), **PARTS}.items():
        variance = rows[:, where].var(0).sum()
        assert spread[part].variance == pytest.approx(float(variance), rel=1e-12)
        square = rows[:, where].mean(0).square().sum() - variance / n
        assert spread[part].mean_square == pytest.approx(float(square), rel=1e-12)


def test_up_to_sixteen_rows_the_standard_error_is_exact():
    rows = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance = (rows - rows.mean(0)).square().sum(1) * 9 / 8
    assert moments(rows).spread()["all"].std_error == pytest.approx(float(distance.std() / 3), rel=1e-12)


def test_grouping_changes_no_bit():
    rows = torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    assert moments(rows, 1).spread() == moments(rows, 7).spread() == moments(rows, 50).spread()


def test_a_small_spread_around_a_large_mean_keeps_its_digits():
    noise = torch.randn(100, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    near, far = moments(noise), moments(1e9 + noise)
    assert far.spread()["all"].variance == pytest.approx(near.spread()["all"].variance, rel=1e-5)


def test_the_standard_error_is_right_and_if_anything_too_large():
    generator = torch.Generator().manual_seed(3)
    spreads = [
        moments(torch.randn(64, 5, generator=generator, dtype=torch.float64)).spread()["all"] for _ in range(800)
    ]
    actual = torch.tensor([s.variance for s in spreads], dtype=torch.float64).std()
    claimed = torch.tensor([s.std_error for s in spreads], dtype=torch.float64).mean()
    assert 0.97 < float(claimed / actual) < 1.15  # the spread of 800 is known to 2.5%


def test_one_row_is_no_variance():
    with pytest.raises(ValueError, match="at least two"):
        moments(torch.ones(1, 5)).spread()


def test_memory_holds_no_rows_beyond_the_pilot():
    sums = VectorMoments(PARTS, pilot=4)
    for _ in range(100):
        sums.add(torch.randn(1, 5))
    held = [t for t in vars(sums).values() if isinstance(t, torch.Tensor)]
    assert sum(t.numel() for t in held) <= 3 * 5
    assert not sums._waiting


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_weights_in_chunks_give_what_they_give_at_once(chunk):
    log_w = 30 * torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 800
    sums = WeightSums()
    for part in log_w.split(chunk):
        sums.add(part)
    torch.testing.assert_close(sums.log_mean, log_w.logsumexp(0) - math.log(10))
    w = (log_w - log_w.max(0).values).exp()
    torch.testing.assert_close(sums.ess, w.sum(0).square() / w.square().sum(0))


def test_zero_weights_are_minus_infinity_and_no_sample():
    sums = WeightSums()
    sums.add(torch.full((3, 1), -math.inf))
    sums.add(torch.full((3, 1), -math.inf))
    assert float(sums.log_mean) == -math.inf
    assert math.isnan(float(sums.ess))
    sums.add(torch.zeros(6, 1))
    assert float(sums.log_mean) == pytest.approx(-math.log(2))
    assert float(sums.ess) == pytest.approx(6)
