"""The draws behind relaxed and straight-through methods: laws, limits, densities, and logits of any size."""

import pytest
import torch
from scipy import stats

from vbench import Rng, Space

relaxations = pytest.importorskip("vbench_discrete.relaxation", reason="pip install ./plugins/vbench-discrete")
LOGITS = {
    "binary": torch.tensor([[0.7, -1.9, 0.2]], dtype=torch.float64),
    "categorical": torch.tensor([[[0.7, -1.9, 0.2], [-0.4, 0.1, 1.3]]], dtype=torch.float64),
}
both = pytest.mark.parametrize("support", ["binary", "categorical"])


def ways(support):
    return relaxations.relaxation(Space(tuple(LOGITS[support].shape[1:]), support))


def noise(support, k, seed=0):
    rng = Rng(seed)
    return [rng.uniform(k, *LOGITS[support].shape, dtype=torch.float64) for _ in range(2)]


@both
def test_hard_values_are_the_draws_of_the_discrete_density(support):
    way, logits = ways(support), LOGITS[support]
    u, _ = noise(support, 1000, seed=4)
    drawn = way.density(logits).draw(Rng(4), 1000).z
    assert torch.equal(way.hard(way.latent(logits, u)), drawn)


@both
def test_a_conditional_draw_has_the_given_value_and_the_law_of_the_free_one(support):
    way, logits = ways(support), LOGITS[support]
    u, v = noise(support, 20000)
    z = way.latent(logits, u)
    b = way.hard(z)
    again = way.conditional(logits, b, v)
    assert torch.equal(way.hard(again), b)
    for one, other in zip(z.flatten(1).T, again.flatten(1).T, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 1e-4
    # given b too, coordinate by coordinate, where the free draw has that value
    for one, other, value in zip(z.flatten(1).T, again.flatten(1).T, b.flatten(1).T, strict=True):
        assert stats.ks_2samp(one[value > 0], other[value > 0]).pvalue > 1e-4
    assert abs(torch.corrcoef(torch.stack([z.flatten(1)[:, 0], again.flatten(1)[:, 0]]))[0, 1]) < 0.95


@both
def test_relaxed_draws_go_from_the_discrete_ones_to_the_middle(support):
    way, logits = ways(support), LOGITS[support]
    z = way.latent(logits, noise(support, 500)[0])
    middle = 0.5 if support == "binary" else 1 / 3
    assert (way.soft(z, 1e-4) - way.hard(z)).abs().mean() < 1e-3
    assert (way.soft(z, 1e4) - middle).abs().max() < 1e-2
    assert ((way.soft(z, 0.7) > 0) & (way.soft(z, 0.7) < 1)).all()


def test_relaxed_densities_are_those_of_torch():
    u, _ = noise("binary", 50)
    y = ways("binary").scaled(ways("binary").latent(LOGITS["binary"], u), 0.6)
    temperature = torch.tensor(0.4, dtype=torch.float64)
    theirs = torch.distributions.relaxed_bernoulli.LogitRelaxedBernoulli(temperature, logits=LOGITS["binary"])
    torch.testing.assert_close(ways("binary").log_density(y, LOGITS["binary"], 0.4), theirs.log_prob(y).sum(-1))
    u, _ = noise("categorical", 50)
    y = ways("categorical").scaled(ways("categorical").latent(LOGITS["categorical"], u), 0.6)
    theirs = torch.distributions.relaxed_categorical.ExpRelaxedCategorical(temperature, logits=LOGITS["categorical"])
    torch.testing.assert_close(
        ways("categorical").log_density(y, LOGITS["categorical"], 0.4), theirs.log_prob(y).sum(-1)
    )


@both
def test_pull_is_the_jacobian_of_the_mean(support):
    way, logits = ways(support), LOGITS[support].clone().requires_grad_()
    slope = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = way.density(logits).mean
    (expected,) = torch.autograd.grad((mean * slope).sum(), logits)
    torch.testing.assert_close(way.pull(mean, slope), expected)


@both
@pytest.mark.parametrize("size", [1.0, 30.0, 300.0])
def test_no_logit_and_no_noise_is_too_large_for_single_precision(support, size):
    way = ways(support)
    logits = (size * LOGITS[support]).float().requires_grad_()
    edge = torch.finfo(torch.float32).eps / 2
    for u, v in [(edge, edge), (1 - edge, edge), (0.5, 1 - edge), (edge, 0.5)]:
        # a categorical's noise must not tie
        u = torch.full((1, *logits.shape), u)
        b = way.hard(way.latent(logits, u))
        z = torch.cat([way.latent(logits, u), way.conditional(logits, b, torch.full_like(u, v))])
        (slope,) = torch.autograd.grad(way.soft(z, 0.5).square().sum() + 1e-3 * z.square().sum(), logits)
        assert z.isfinite().all()
        assert slope.isfinite().all()
