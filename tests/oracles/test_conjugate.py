"""The closed forms against published numbers, scipy, quadrature and finite differences."""

import math

import pytest
import torch
from scipy import stats

from tests import toys
from vbench.bounds import ELBO
from vbench.builtin.decoders.gaussian import GaussianDecoder
from vbench.model import Model
from vbench.oracles import conjugate, quadrature
from vbench.oracles.conjugate import LinearGaussian


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# facts: z ~ N(0, 1), x | z ~ N(z, .7), x = 1.3, q = N(.2, .9)
SCALAR = LinearGaussian(tensor([1.0]), tensor(0.0), tensor(0.7).sqrt(), tensor(0.0), tensor(1.0))
X, LOC, SCALE = tensor([1.3]), tensor([0.2]), tensor([0.9]).sqrt()


def test_the_fixed_case():
    assert float(SCALAR.log_evidence(X)) == pytest.approx(-1.6813114823, abs=5e-11)
    assert float(SCALAR.elbo(X, LOC, SCALE)) == pytest.approx(-2.2704241762, abs=5e-11)
    mean, covariance = SCALAR.posterior(X)
    assert float(mean) == pytest.approx(1.3 / 1.7)
    assert float(covariance) == pytest.approx(0.7 / 1.7)


@pytest.mark.parametrize(
    ("alpha", "value"),
    [(0.5, -1.8774205334), (-0.5, -1.5613048515), (-1.0, -1.4793188496), (1.0, -2.2704241762)],
)
def test_the_renyi_bounds_of_the_fixed_case(alpha, value):
    assert float(SCALAR.renyi(X, LOC, SCALE, alpha)) == pytest.approx(value, abs=1e-10)


def test_a_renyi_divergence_that_does_not_exist_is_infinite():
    assert float(SCALAR.renyi(X, LOC, SCALE, 2.0)) == -math.inf
    # q narrower than half the posterior's variance: E[w^2] diverges
    assert float(SCALAR.renyi(X, LOC, tensor([0.2]).sqrt(), -1.0)) == math.inf


def test_the_evidence_is_the_density_of_a_normal():
    model, batch = toys.linear_gaussian(), toys.batch(binary=False)
    weight, bias = (p.detach().numpy() for p in model.decoder.linear.parameters())
    noise = model.decoder.log_scale.detach().exp().square().diag().numpy()
    exact = stats.multivariate_normal(bias, weight @ weight.T + noise).logpdf(batch.x.numpy())
    torch.testing.assert_close(conjugate.log_evidence(model, batch).detach(), torch.from_numpy(exact))


@pytest.mark.parametrize("prior", ["standard", "normal"])
def test_the_posterior_is_bayes_rule_at_any_z(prior):
    model, batch = toys.linear_gaussian(prior=prior), toys.batch(binary=False)
    mean, covariance = conjugate.posterior(model, batch)
    evidence = conjugate.log_evidence(model, batch)
    for z in (tensor(0.3, -1.2), tensor(-2.0, 0.7)):
        rows = z.expand(1, 5, 2)
        density = [stats.multivariate_normal(m, covariance.detach().numpy()).logpdf(z.numpy()) for m in mean.detach()]
        torch.testing.assert_close((model.log_joint(batch, rows)[0] - evidence).detach(), tensor(*density))


@pytest.mark.parametrize("prior", ["standard", "normal"])
@pytest.mark.parametrize("latent", [1, 2])
def test_the_elbo_and_its_gradient_agree_with_quadrature(latent, prior):
    model, batch = toys.linear_gaussian(latent, prior), toys.batch(binary=False)
    # the integrand is a quadratic: three nodes are exact
    answer = quadrature.bound_value(model, batch, ELBO(), 1, count=4)
    torch.testing.assert_close(conjugate.elbo(model, batch), answer)
    gradients = conjugate.exact_gradient(model, batch)
    expected = quadrature.gradient(answer, model)
    assert gradients.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name in expected:
        torch.testing.assert_close(gradients[name], expected[name], msg=name)


def test_the_evidence_agrees_with_quadrature():
    model, batch = toys.linear_gaussian(latent=1), toys.batch(binary=False)
    torch.testing.assert_close(conjugate.log_evidence(model, batch), quadrature.log_evidence(model, batch, 200))


def test_the_elbo_meets_the_evidence_at_the_posterior_and_is_flat_there():
    model, batch = toys.linear_gaussian(latent=1), toys.batch(binary=False)
    mean, covariance = conjugate.posterior(model, batch)
    linear = LinearGaussian(
        model.decoder.linear.weight,
        model.decoder.linear.bias,
        model.decoder.log_scale.exp(),
        tensor(0.0),
        tensor(1.0),
    )
    loc = mean.detach().requires_grad_()
    scale = covariance.sqrt().expand(5, 1).detach().requires_grad_()
    best = linear.elbo(batch.x, loc, scale)
    torch.testing.assert_close(best, conjugate.log_evidence(model, batch))
    for slope in torch.autograd.grad(best.sum(), [loc, scale]):
        assert slope.abs().max() < 1e-12
    assert (conjugate.elbo(model, batch) < best).all()


def test_renyi_bounds_fall_from_the_evidence_to_the_elbo_and_below():
    model, batch = toys.linear_gaussian(), toys.batch(binary=False)
    alphas = (-0.1, 0.0, 0.3, 1.0, 1.001)
    values = torch.stack([conjugate.renyi(model, batch, alpha).detach() for alpha in alphas])
    assert values.isfinite().all()
    assert (values.diff(dim=0) < 0).all()
    torch.testing.assert_close(values[1], conjugate.log_evidence(model, batch).detach())
    torch.testing.assert_close(values[3], values[4], rtol=1e-2, atol=1e-2)


def with_mask(model, batch):
    return model, batch._replace(mask=torch.ones_like(batch.x))


def with_curved_decoder(model, batch):
    decoder = toys.randomize(GaussianDecoder(toys.REAL, model.encoder.z, toys.MEAN, hidden=(3,)), 5)
    return Model(model.encoder, decoder, model.prior), batch


def with_varying_noise(model, batch):
    # affine in the mean, not in the noise
    decoder = toys.randomize(GaussianDecoder(toys.REAL, model.encoder.z, toys.MEAN, hidden=()), 5)
    return Model(model.encoder, decoder, model.prior), batch


def with_mixture_prior(model, batch):
    return Model(model.encoder, model.decoder, toys.gaussian().prior), batch


def with_binary_data(model, batch):
    return toys.gaussian(prior="standard"), toys.batch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_mask, "masked"),
        (with_curved_decoder, "not affine"),
        (with_varying_noise, "not affine in z with constant Gaussian noise"),
        (with_mixture_prior, "not NormalMixture"),
        (with_binary_data, "BernoulliDecoder is not affine"),
    ],
)
def test_what_is_not_conjugate_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        conjugate.elbo(*change(toys.linear_gaussian(), toys.batch(binary=False)))
