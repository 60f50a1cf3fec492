"""Densities integrate to one, draws carry their own density, weights are proper: sums over a plane, no sampling."""

import pytest
import torch
from flow_cases import (
    ENCODERS,
    PRIORS,
    FlippedSign,
    Nodes,
    Unconstrained,
    data,
    encoder,
    few,
    plane,
    prior,
    twisted,
)
from vbench_flows.normalizing import Flow
from vbench_flows.planar import Planar

from tests import toys
from vbench import DiagonalNormal, Rng, Space

MOVES = [name for name in ENCODERS if name != "householder"]


def mass(density, size=3, count=251):
    points, log_area = plane(count)
    with torch.no_grad():
        return (density.log_prob(points[:, None].expand(-1, size, 2)) + log_area[:, None]).exp().sum(0)


@pytest.mark.parametrize("name", few(ENCODERS))
def test_posterior_integrates_to_one(name):
    torch.testing.assert_close(
        mass(encoder(name, size=0.5)(data(), None)), torch.ones(3, dtype=torch.float64), atol=5e-3, rtol=0
    )


@pytest.mark.parametrize("name", PRIORS)
def test_prior_integrates_to_one(name):
    torch.testing.assert_close(mass(prior(name)(None, None)), torch.ones(3, dtype=torch.float64), atol=5e-3, rtol=0)


@pytest.mark.parametrize("name", few(MOVES))
def test_with_a_log_determinant_of_the_wrong_sign_it_does_not(name):
    assert (mass(twisted(encoder(name, size=0.5)(data(), None), FlippedSign), count=101) - 1).abs().max() > 1e-2


def test_a_missing_constraint_does_not():
    u, w, b = (torch.tensor(v, dtype=torch.float64) for v in ([[1.5, -1.0]], [[-2.0, 1.0]], [0.2]))
    good = Planar.constrained(u, w, b)
    base = DiagonalNormal(torch.zeros_like(u), torch.ones_like(u))
    assert abs(mass(Flow(base, [good]), 1, 801) - 1) < 1e-3
    assert abs(mass(Flow(base, [Unconstrained(u, good)]), 1, 801) - 1) > 1e-2


@pytest.mark.parametrize("latent", [1, 2, 5])
@pytest.mark.parametrize("name", few(ENCODERS))
def test_draws_carry_their_density(name, latent):
    posterior = encoder(name, latent)(data(), None)
    z, log_q, _ = posterior.draw(Rng(1), 50)
    assert (z.shape, log_q.shape) == ((50, 3, latent), (50, 3))
    torch.testing.assert_close(posterior.log_prob(z), log_q, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", PRIORS)
def test_draws_of_the_prior_carry_their_density(name):
    density = prior(name, Space((2, 3)))(None, None)
    z, log_q, _ = density.draw(Rng(1), 50)
    assert (z.shape, log_q.shape) == ((50, 1, 2, 3), (50, 1))
    torch.testing.assert_close(density.log_prob(z), log_q, rtol=1e-8, atol=1e-8)


def moments(log_mass, z):
    """Sums ``[B, 5]`` of mass times 1, z and z^2."""
    return (log_mass.exp()[..., None] * torch.cat([torch.ones_like(z[..., :1]), z, z.square()], -1)).sum(0)


def expected(model, posterior, batch):
    """E[w h] over the noise, and p(x) E[h] under the posterior of the model, ``[B, 5]`` each."""
    points, log_area = plane(201)
    with torch.no_grad():
        z, log_q, _ = posterior.draw(Nodes(points), len(points))
        noise = -0.5 * points.square().sum(-1) - torch.log(torch.tensor(2 * torch.pi)) + log_area
        ours = moments(model.log_joint(batch, z) - log_q + noise[:, None], z)
        here = points[:, None].expand(-1, len(batch.x), 2)
        return ours, moments(model.log_joint(batch, here) + log_area[:, None], here)


@pytest.mark.parametrize("name", few(ENCODERS))
def test_weights_are_proper(name):
    model, batch = toys.gaussian(), data()
    posterior = encoder(name, size=0.4)(batch, None)
    torch.testing.assert_close(*expected(model, posterior, batch), rtol=2e-3, atol=2e-4)
    if name in MOVES:
        ours, truth = expected(model, twisted(posterior, FlippedSign), batch)
        assert ((ours - truth).abs() / truth.abs()).max() > 1e-2
