"""Datasets with exact answers: the answers are exact, and the rows come from the model that they are of."""

import math

import pytest
import torch
from scipy.stats import chi2

from vbench.builtin.datasets.bernoulli_bars import bernoulli_bars
from vbench.builtin.datasets.linear_gaussian import linear_gaussian

LIMIT = 1e-6  # a correct draw fails with this probability; seeds are fixed


def test_linear_gaussian_evidence_agrees_with_monte_carlo():
    data = linear_gaussian()
    x, count = data.test[:5], 200_000
    z = torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    residual = (x[:, None] - z @ data.weight.T - data.offset) / data.noise
    log_p = -0.5 * residual.square().sum(2) - 8 * math.log(data.noise * math.sqrt(2 * math.pi))
    _assert_mean(log_p, data.log_evidence(x))


def test_bars_evidence_agrees_with_monte_carlo():
    data = bernoulli_bars()
    x, count = data.test[:5] // 255, 200_000
    bars = torch.rand(count, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < data.rate
    clean = bars[:, :4, None] | bars[:, None, 4:]
    turned = (x[:, None].bool() ^ clean).sum((2, 3))
    log_p = turned * math.log(data.flip) + (16 - turned) * math.log1p(-data.flip)
    _assert_mean(log_p, data.log_evidence(x))


def _assert_mean(log_p, log_evidence):
    """The mean of p(x | z) over draws of z is p(x), within five standard errors."""
    ratio = (log_p - log_evidence[:, None]).exp()
    assert ((ratio.mean(1) - 1).abs() < 5 * ratio.std(1) / ratio.shape[1] ** 0.5).all()


def test_bars_evidence_is_the_sum_over_all_states():
    data = bernoulli_bars(side=3, rate=0.3, flip=0.1)
    bits = torch.arange(2**9)[:, None] >> torch.arange(9) & 1
    x = bits.view(-1, 3, 3).double()
    states = (torch.arange(2**6)[:, None] >> torch.arange(6) & 1).bool()
    clean = (states[:, :3, None] | states[:, None, 3:]).double()
    prior = torch.where(states, 0.3, 0.7).double().prod(1)
    likelihood = torch.where(x[:, None] == clean, 0.9, 0.1).double().prod(3).prod(2)
    assert torch.allclose(data.log_evidence(x).exp(), likelihood @ prior, rtol=1e-6)
    assert data.log_evidence(x).exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.equal(data.log_evidence(x), data.log_evidence((x * 255).to(torch.uint8)))


def test_bars_are_drawn_from_their_model():
    data = bernoulli_bars(n=20_000, side=2)
    images = (torch.arange(16)[:, None] >> torch.arange(4) & 1).view(16, 2, 2)
    code = (data.train.flatten(1) // 255 * torch.tensor([1, 2, 4, 8])).sum(1)
    expected = 20_000 * data.log_evidence(images).exp()
    assert ((code.bincount(minlength=16) - expected) ** 2 / expected).sum() < chi2.ppf(1 - LIMIT, 15)


def test_linear_gaussian_rows_are_drawn_from_their_model():
    data = linear_gaussian(n=20_000)
    covariance = data.weight @ data.weight.T + data.noise**2 * torch.eye(8, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(data.offset, covariance)
    assert torch.allclose(data.log_evidence(data.test), normal.log_prob(data.test), rtol=1e-10)
    gap = data.log_evidence(data.train) + normal.entropy()
    assert abs(gap.mean()) < 5 * gap.std() / len(gap) ** 0.5
    assert gap.var() == pytest.approx(8 / 2, rel=0.1)
