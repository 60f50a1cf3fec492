"""What importance weights tell, against brute force, known moments and another implementation."""

import math

import pytest
import torch

from vbench.measure.weights import effective_size, jackknife, k_hat_limit, log_mean, pareto_k_hat


def normal(k, *shape, seed=0):
    return torch.randn(k, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gammas(a, k, runs):
    torch.manual_seed(4)
    return torch.distributions.Gamma(torch.tensor(a, dtype=torch.float64), 1.0).sample((k, runs)).log()


def test_the_jackknife_is_what_leaving_each_weight_out_gives():
    log_w = normal(7, 3)
    log_w[2, 1] = 90.0  # next to which the others vanish in rounding
    without = torch.stack([log_mean(log_w[torch.arange(7) != i]) for i in range(7)])
    torch.testing.assert_close(jackknife(log_w), 7 * log_mean(log_w) - 6 * without.mean(0))
    assert jackknife(log_w[:1]).isnan().all()
    torch.testing.assert_close(jackknife(torch.full((5, 2), -3.0)), torch.full((2,), -3.0))


@pytest.mark.parametrize("k", [2, 5])
def test_the_jackknife_takes_away_the_bias_of_the_first_order(k):
    a = 2.0  # Gamma(a): the log mean of k has expectation digamma(a k) - log k, facts of its moments
    log_w = gammas(a, k, 200_000)
    digamma = torch.digamma(torch.tensor([a * k, a * (k - 1)], dtype=torch.float64))
    exact = k * (digamma[0] - math.log(k)) - (k - 1) * (digamma[1] - math.log(k - 1))
    found = jackknife(log_w)
    assert abs(found.mean() - exact) < 4.5 * found.std() / 200_000**0.5
    assert abs(exact - math.log(a)) < 0.3 * abs(digamma[0] - math.log(k) - math.log(a))


def test_effective_size_counts_equal_weights():
    log_w = torch.full((6, 2), -torch.inf, dtype=torch.float64)
    log_w[:4, 0], log_w[:1, 1] = -1000.0, 5.0
    torch.testing.assert_close(effective_size(log_w), torch.tensor([4.0, 1.0], dtype=torch.float64))


def fitted_by_hand(x):
    """The fit of Zhang and Stephens, number by number, with the weak prior of PSIS."""
    x, n = sorted(x), len(x)
    m = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    thetas = [1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * quartile) for j in range(1, m + 1)]
    profile = []
    for theta in thetas:
        k = sum(math.log1p(-theta * each) for each in x) / n
        profile.append(n * (math.log(-theta / k) - k - 1))
    weights = [1 / sum(math.exp(other - one) for other in profile) for one in profile]
    theta = sum(w * t for w, t in zip(weights, thetas, strict=True))
    k = sum(math.log1p(-theta * each) for each in x) / n
    return (n * k + 5) / (n + 10)


@pytest.mark.parametrize(("k", "scale"), [(40, 0.7), (400, 2.0), (1000, 0.1)])
def test_k_hat_is_the_fit_done_by_hand(k, scale):
    log_w = scale * normal(k, 2, seed=k)
    size = math.ceil(min(0.2 * k, 3 * math.sqrt(k)))
    for column, found in zip(log_w.unbind(1), pareto_k_hat(log_w), strict=True):
        weights = sorted((column - column.max()).exp().tolist())
        tail = [each - weights[-size - 1] for each in weights[-size:]]
        assert float(found) == pytest.approx(fitted_by_hand(tail), abs=1e-6)


def test_k_hat_of_another_implementation():
    """arviz-stats 0.8.0: array_stats.psislw of these 40 weights gives .43176683."""
    log_w = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None] ** 3 / 3
    assert float(pareto_k_hat(log_w)) == pytest.approx(0.43176683, abs=1e-7)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_k_hat_finds_the_shape_of_pareto_weights(shape):
    u = (torch.arange(100_000, dtype=torch.float64)[:, None] + 0.5) / 100_000
    assert float(pareto_k_hat(-shape * u.log())) == pytest.approx(shape, abs=0.06)


def test_k_hat_of_weights_without_a_tail():
    assert float(pareto_k_hat(torch.full((100, 1), -7.0))) == 0
    two = (torch.arange(1000)[:, None] % 3 == 0).double()  # discrete latents: the largest weights are equal
    assert float(pareto_k_hat(two)) == 0
    few = torch.zeros(1000, 1, dtype=torch.float64)
    few[:30], few[:5] = 1.0, 1.5  # ties below the largest
    assert float(pareto_k_hat(few)) < 1
    assert float(pareto_k_hat(normal(20, 1))) == math.inf
    assert float(pareto_k_hat(normal(25, 1))) < math.inf
    assert pareto_k_hat(normal(30, 1).float()).dtype == torch.float32


def test_few_samples_need_thin_tails():
    assert k_hat_limit(1) == -math.inf
    assert k_hat_limit(10) == 0
    assert k_hat_limit(100) == pytest.approx(0.5)
    assert k_hat_limit(5000) == 0.7
