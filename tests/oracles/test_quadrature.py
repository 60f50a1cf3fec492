"""Quadrature against moments, published numbers, plain Monte Carlo and finite differences."""

import math

import pytest
import torch

from tests import toys
from tests.estimators.truth import MODELS
from tests.oracles.test_enumeration import AsAnObjective
from vbench.bounds import ELBO, IWAE
from vbench.builtin.decoders.linear_gaussian import LinearGaussianDecoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.model import Model
from vbench.oracles import quadrature
from vbench.targets import Wake
from vbench.types import Batch, Space


class PowerMean:
    """E[w^power] itself, not its logarithm: a bound for one sample."""

    linear, smooth, kind = False, True, "none"

    def __init__(self, power):
        self.power = power

    def __call__(self, log_w):
        return (self.power * log_w).exp().mean(0)


def fixed_case():
    """facts: z ~ N(0, 1), x | z ~ N(z, .7), x = 1.3, q = N(.2, .9)."""
    one = Space((1,))
    encoder = GaussianEncoder(one, 1, hidden=())
    decoder = LinearGaussianDecoder(one, encoder.z, torch.zeros(1), scale=math.sqrt(0.7))
    model = Model(encoder, decoder, StandardNormalPrior(encoder.z)).double()
    with torch.no_grad():
        encoder.net[0].weight.zero_()
        encoder.net[0].bias.copy_(torch.tensor([0.2, 0.5 * math.log(0.9)], dtype=torch.float64))
        decoder.linear.weight.fill_(1.0)
        decoder.log_scale.fill_(0.5 * math.log(0.7))
    return model, Batch(torch.tensor([[1.3]], dtype=torch.float64), torch.arange(1))


def test_nodes_integrate_polynomials():
    for count, dimensions in ((8, 1), (8, 2), (200, 1)):
        points, log_mass = quadrature.nodes(count, dimensions)
        mass = log_mass.exp()
        assert points.shape[1] == dimensions
        assert float(mass.sum()) == pytest.approx(1, abs=1e-12)
        for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
            assert float(mass @ points[:, 0] ** power) == pytest.approx(moment, abs=1e-8)
        if dimensions == 2:
            assert float(mass @ (points[:, 0] * points[:, 1]) ** 2) == pytest.approx(1, abs=1e-12)


def test_the_fixed_case():
    model, batch = fixed_case()
    model.requires_grad_(False)
    assert float(quadrature.log_evidence(model, batch, 60)) == pytest.approx(-1.6813114823, abs=5e-10)
    assert float(quadrature.bound_value(model, batch, ELBO(), 1, 8)) == pytest.approx(-2.2704241762, abs=5e-10)
    for alpha, value in ((0.5, -1.8774205334), (-0.5, -1.5613048515)):
        power = quadrature.bound_value(model, batch, PowerMean(1 - alpha), 1, 80)
        assert float(power.log()) / (1 - alpha) == pytest.approx(value, abs=1e-8)
    second = quadrature.bound_value(model, batch, PowerMean(2), 1, 160)
    assert float(second.log()) - 2 * -1.6813114823 == pytest.approx(math.log(1.4977818774), abs=1e-6)


@pytest.mark.parametrize(("where", "k"), [("line", 3), ("mixture", 2), ("vamp", 2)])
def test_the_bound_agrees_with_plain_monte_carlo(where, k):
    model, batch = MODELS[where](), toys.batch()
    exact = quadrature.settled(model, batch, IWAE(), k, tolerance=1e-3).value
    n = 100_000
    with torch.no_grad():
        q = model.posterior(batch)
        noise = torch.randn(k * n, *q.loc.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        z = q.loc + q.scale * noise
        log_w = (model.log_joint(batch, z) - q.log_prob(z)).unflatten(0, (k, n))
        draws = log_w.logsumexp(0) - math.log(k)
    error = (draws.mean(0) - exact) / (draws.std(0) / n**0.5)
    assert error.abs().max() < 4.5


def test_the_gradient_is_the_slope_of_the_value():
    model, batch = toys.gaussian(latent=1), toys.batch()
    gradients = quadrature.settled(model, batch, IWAE(), 2, tolerance=1e-6).gradient
    step = 1e-5
    for name, parameter in model.named_parameters():
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[0] += sign * step
                ends.append(quadrature.bound_value(model, batch, IWAE(), 2, 100).mean())
                parameter.view(-1)[0] -= sign * step
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(gradients[name].view(-1)[0]), rel=1e-4, abs=1e-7)


def test_it_settles_where_more_nodes_change_nothing():
    model, batch = toys.gaussian(latent=1), toys.batch()
    answer = quadrature.settled(model, batch, IWAE(), 2, tolerance=1e-5)
    assert answer.change < 1e-5
    finer = quadrature.bound_value(model, batch, IWAE(), 2, 4 * answer.nodes)
    torch.testing.assert_close(answer.value, finer.detach(), rtol=1e-5, atol=0)
    assert not answer.value.requires_grad


def test_bounds_rise_towards_the_evidence():
    model, batch = toys.gaussian(latent=1), toys.batch()
    values = [quadrature.bound_value(model, batch, IWAE(), k, 40) for k in (1, 2, 3)]
    values.append(quadrature.log_evidence(model, batch, 80))
    assert (torch.stack(values).diff(dim=0) > 0).all()


def test_what_never_settles_says_so():
    class Step:
        linear, smooth, kind = False, False, "none"

        def __call__(self, log_w):
            return (log_w > -3).to(log_w.dtype).mean(0) + 0 * log_w.sum(0)

    with pytest.raises(ValueError, match=r"not settled at \d+ nodes.*too many terms"):
        quadrature.settled(toys.gaussian(latent=1), toys.batch(), Step(), 2, tolerance=1e-9, limit=1 << 14)


def test_latents_that_it_cannot_serve_are_refused():
    with pytest.raises(ValueError, match="one or two latent variables, not 3"):
        quadrature.bound_value(toys.gaussian(latent=3), toys.batch(), ELBO(), 1, 8)
    with pytest.raises(ValueError, match="loc and scale, not Bernoulli"):
        quadrature.bound_value(toys.binary(), toys.batch(), ELBO(), 1, 8)


def test_a_target_agrees_with_plain_monte_carlo():
    model, batch = fixed_case()
    q, n = model.posterior(batch), 400_000
    z = q.loc.detach() + q.scale.detach() * torch.randn(
        n, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    z = z.movedim(1, 0).reshape(2, n, 1)
    wide = batch._replace(x=batch.x.expand(n, 1))
    log_p, log_q = model.log_joint(wide, z), model.posterior(wide).log_prob(z)
    named = dict(model.named_parameters())
    drawn = torch.autograd.grad(Wake()(log_p, log_q).mean(), list(named.values()))
    settled = quadrature.settled(model, batch, IWAE(), 2, target=Wake())
    exact = quadrature.settled(model, batch, IWAE(), 2)
    torch.testing.assert_close(settled.value, exact.value)
    for name, slope in zip(named, drawn, strict=True):
        torch.testing.assert_close(settled.gradient[name], slope, rtol=0.02, atol=0.01)
    bias = "encoder.net.0.bias"
    assert not torch.allclose(settled.gradient[bias], exact.gradient[bias], rtol=0.1)


def test_an_objective_is_asked_at_nodes_of_posterior_and_prior():
    model, batch = toys.gaussian(prior="normal"), toys.batch()
    found = quadrature.settled(model, batch, AsAnObjective(prior=2.0), 3)
    elbo = quadrature.settled(model, batch, ELBO(), 1)
    torch.testing.assert_close(found.value, elbo.value + 2 * model.prior_density(batch).loc.sum(), rtol=1e-4, atol=1e-4)
    for name, slope in found.gradient.items():
        shift = 2.0 if name == "prior.loc" else 0.0
        torch.testing.assert_close(slope, elbo.gradient[name] + shift, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="too many pairs"):
        quadrature.bound_value(model, batch, AsAnObjective(), 1, 40, limit=1000)
