"""MMD against double loops, its estimates against every sample of a tiny case, a twin that keeps the diagonal."""

import itertools

import pytest
import torch
from vbench_divergence.cost import fit
from vbench_divergence.draws import prior_draws
from vbench_divergence.mmd import between_atoms, kernel, mmd2

from tests import toys
from vbench import Atoms, Rng

kinds = pytest.mark.parametrize("kind", ["imq", "rbf"])


def k(x, y, kind, width):
    """One pair, written out."""
    square, scale = sum((a - b) ** 2 for a, b in zip(x, y, strict=True)), 2 * len(x) * width**2
    return scale / (scale + square) if kind == "imq" else torch.exp(-square / scale)


def samples(n, seed):
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3 * seed


@kinds
def test_the_estimate_is_the_double_loop(kind):
    x, y, width = samples(5, 1), samples(4, 2), 0.7
    within = [
        sum(k(a, b, kind, width) for a, b in itertools.permutations(s, 2)) / len(s) / (len(s) - 1) for s in (x, y)
    ]
    across = sum(k(a, b, kind, width) for a in x for b in y) / 20
    torch.testing.assert_close(mmd2(x, y, kind, width), within[0] + within[1] - 2 * across)
    both = mmd2(torch.stack([x, x + 1]), torch.stack([y, y]), kind, width)
    torch.testing.assert_close(both, torch.stack([mmd2(x, y, kind, width), mmd2(x + 1, y, kind, width)]))


def with_diagonal(x, y, kind, width):
    """The V-statistic: every pair, a sample with itself too."""
    return (kernel(x, x, kind, width).mean() + kernel(y, y, kind, width).mean()) - 2 * kernel(x, y, kind, width).mean()


@kinds
def test_over_every_sample_of_a_tiny_case_the_estimate_has_no_bias_and_its_twin_has(kind):
    points = samples(3, 1)
    p, q = torch.tensor([0.2, 0.5, 0.3]).double(), torch.tensor([0.6, 0.1, 0.3]).double()
    gram = kernel(points, points, kind, 1.0)
    truth = (p - q) @ gram @ (p - q)
    means = {mmd2: 0, with_diagonal: 0}
    for i, j, m, n in itertools.product(range(3), repeat=4):
        for statistic in means:
            means[statistic] += p[i] * p[j] * q[m] * q[n] * statistic(points[[i, j]], points[[m, n]], kind, 1.0)
    torch.testing.assert_close(means[mmd2], truth)
    assert means[with_diagonal] > truth + 0.05


@kinds
def test_between_weighted_points_is_the_expectation_of_the_estimate(kind):
    """Two data, each with two points; the prior with two: every outcome of one draw each, and two of the prior."""
    z, y = torch.stack([samples(2, 1), samples(2, 3)], 1), samples(2, 2)  # [S, B, D], [S, D]
    mass = torch.tensor([[0.3, 0.8], [0.7, 0.2]]).double()
    other = torch.tensor([0.4, 0.6]).double()
    q, p = Atoms(z, mass.log(), mass.log()), Atoms(y[:, None], other.log()[:, None], other.log()[:, None])
    total = 0
    for i, j, m, n in itertools.product(range(2), repeat=4):
        drawn = torch.stack([z[i, 0], z[j, 1]])
        total += mass[i, 0] * mass[j, 1] * other[m] * other[n] * mmd2(drawn, y[[m, n]], kind, 0.8)
    torch.testing.assert_close(between_atoms(q, p, kind, 0.8), total)


def test_the_last_batch_may_hold_one_datum():
    x = samples(1, 1).requires_grad_()
    value = mmd2(x, samples(1, 2), "imq", 1.0)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


def test_draws_of_the_prior_are_one_set_for_each_datum():
    for prior in ("standard", "normal", "mixture", "vamp"):
        z = prior_draws(toys.gaussian(prior=prior), Rng(1), 3, 5)
        assert z.shape == (3, 5, 2)
        assert len(z.flatten(0, 1).unique(dim=0)) == 15


def test_the_squared_error_sees_observed_entries_only():
    model, batch = toys.gaussian(), toys.batch()
    z = model.posterior(batch).draw(Rng(1), 2).z
    mean = model.likelihood(batch, z).mean
    torch.testing.assert_close(fit("squared", model, batch, z), -(mean - batch.x).square().sum(2))
    mask = torch.ones_like(batch.x)
    mask[1, 2] = 0
    hidden = batch._replace(x=torch.where(mask.bool(), batch.x, torch.nan), mask=mask)
    expected = -(mean - batch.x).square().where(mask.bool(), 0).sum(2)
    torch.testing.assert_close(fit("squared", model, hidden, z), expected)
    torch.testing.assert_close(fit("likelihood", model, hidden, z), model.log_likelihood(hidden, z))
