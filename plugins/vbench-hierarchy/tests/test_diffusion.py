"""Diffusion models against closed forms: nets that are linear, data that are Gaussian, and wrong twins."""

import itertools
import math

import numpy as np
import pytest
import torch
from gaussian_chains import Given, by_part, off
from torch.func import vmap
from vbench_hierarchy import diffusion, vdm, vdm_continuous, vdm_prior
from vbench_hierarchy.schedule import between, mixed
from vbench_hierarchy.vdm import VDM
from vbench_hierarchy.vdm_continuous import VDMContinuous
from vbench_hierarchy.vdm_encoder import VDMEncoder
from vbench_hierarchy.vdm_prior import VDMPrior

from tests import toys
from tests.gradients import gradient_function, keys
from vbench import Batch, DiagonalNormal, Estimate, Incompatible, Model, Space
from vbench.builtin.decoders.linear_gaussian import LinearGaussianDecoder
from vbench.estimators.reparam import reparam
from vbench.estimators.stl import stl
from vbench.testing import Verdict, checks
from vbench.testing.verdict import run_check

X = Space((2,))
ONE = Batch(torch.tensor([[0.8, -1.3]], dtype=torch.float64), torch.arange(1))


def made(steps, hidden=(), seed=3, size=0.4):
    encoder = VDMEncoder(X, steps)
    decoder = LinearGaussianDecoder(X, encoder.z.bottom, torch.zeros(2), noise="diagonal")
    model = toys.randomize(Model(encoder, decoder, VDMPrior(encoder.z, hidden, low=-3.0, high=2.0)), seed, size)
    with torch.no_grad():
        model.prior.schedule.start -= 1.5
        model.prior.schedule.log_span += 0.8
    model.held = set()
    return model


def alpha_sigma(gamma):
    return (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()


def ends(model, low, high):
    """Fit of the clearest layer less the rate of the noisiest, in closed form."""
    x, (weight, bias, noise) = (
        ONE.x[0],
        (model.decoder.linear.weight, model.decoder.linear.bias, model.decoder.log_scale),
    )
    alpha, sigma = alpha_sigma(low)
    squares = (x - bias - weight @ (alpha * x)).square() + sigma**2 * weight.square().sum(1)
    fit = (-0.5 * squares / (2 * noise).exp() - noise - 0.5 * math.log(2 * math.pi)).sum()
    alpha, sigma = alpha_sigma(high)
    return fit - 0.5 * (sigma**2 + alpha**2 * x.square() - 1 - 2 * sigma.log()).sum()


def miss(model, gamma):
    """Expected squared error of a linear net's noise, in closed form."""
    alpha, sigma = alpha_sigma(gamma)
    net = model.prior.net[0]
    linear = sigma * torch.eye(2, dtype=torch.float64) + net.weight[:, :2]
    rest = net.weight[:, 2] * (gamma - model.prior.middle) / model.prior.half + net.bias
    own = torch.eye(2, dtype=torch.float64) - sigma * linear
    return own.square().sum() + (alpha * linear @ ONE.x[0] + rest).square().sum()


def discrete(model, miss=miss):
    gamma = model.prior.schedule()
    steps = [0.5 * torch.expm1(t - s) * miss(model, t) for s, t in itertools.pairwise(gamma)]
    return ends(model, gamma[0], gamma[-1]) - sum(steps)


def continuous(model, miss=miss, points=40):
    gamma = model.prior.schedule()
    at, weight = (torch.as_tensor(a) for a in LEGENDRE(points))
    low, span = gamma[0], gamma[-1] - gamma[0]
    levels = low + span * (at + 1) / 2
    return ends(model, low, gamma[-1]) - 0.25 * span * sum(
        w * miss(model, g) for w, g in zip(weight, levels, strict=True)
    )


def LEGENDRE(points):

    return np.polynomial.legendre.leggauss(points)


def worst(found, exact):
    errors = off(found, exact)
    assert set(errors) == {"decoder", "prior"}
    return max(errors.values())


def number(tensor):
    return float(tensor.detach())


def sphere(size):
    axes = size**0.5 * torch.eye(size, dtype=torch.float64)
    return torch.cat([axes, -axes])


class Fixed:
    """Stands in for random numbers: the number that chooses a level, and noise, for each row."""

    def __init__(self, u, noise):
        self.u, self.noise = u, noise

    def uniform(self, *shape, dtype=None):
        return self.u.reshape(shape)

    def normal(self, *shape, dtype=None):
        return self.noise.reshape(shape)


def each(estimator, model, within=1):
    """Value, surrogate and mass ``[S]`` of every bin, ``within`` places in it and every node of the noise."""
    mass = estimator.timesteps.raw.softmax(0).detach()
    start = mass.cumsum(0) - mass
    places = (torch.arange(within, dtype=torch.float64) + 0.5) / within
    u = (start[:, None] + mass[:, None] * places).flatten()
    weight = (mass[:, None] / within).expand(-1, within).flatten()
    nodes = sphere(2)
    rows = len(u) * len(nodes)
    many = Batch(ONE.x.expand(rows, -1), ONE.index.expand(rows))
    rng = Fixed(u.repeat_interleave(len(nodes)), nodes.repeat(len(u), 1))
    estimate = estimator(model, many, rng)
    return estimate.value, estimate.surrogate, weight.repeat_interleave(len(nodes)) / len(nodes)


def estimator_of(kind, sampling, bins=3, seed=5):
    estimator = (
        VDM(Space((2 * bins + 2,), layers=(2,) * (bins + 1)), 1, sampling) if kind is VDM else kind(1, sampling, bins)
    )
    estimator = estimator.double()
    if sampling == "learned":
        toys.randomize(estimator, seed, 0.7)
    return estimator


def test_noise_adds_up_to_what_the_schedule_says():
    model = made(4)
    alpha, sigma = alpha_sigma(model.prior.schedule())
    units = torch.cat([torch.zeros(1, 10, dtype=torch.float64), torch.eye(10, dtype=torch.float64)])
    draw = model.posterior(ONE).draw(Given(units, (2,) * 5, True), 11)
    z = draw.z[:, 0].reshape(11, 5, 2)
    torch.testing.assert_close(z[0], alpha[:, None] * ONE.x)
    torch.testing.assert_close((z[1:] - z[0]).square().sum(0), (sigma**2)[:, None].expand(5, 2))
    torch.testing.assert_close(draw.log_q, model.posterior(ONE).log_prob(draw.z))
    assert (model.prior.schedule().diff() > 0).all()


def test_a_step_back_is_bayes_rule_where_the_noise_is_known():
    """p(z_s | z_t) with the true noise is q(z_s | z_t, x), by products of normals."""
    model = made(3)
    s, t = model.prior.schedule()[1:3]
    (a_s, b_s), (a_t, b_t) = alpha_sigma(s), alpha_sigma(t)
    z = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 1, 2)
    model.prior.noise = lambda z, gamma: (z - a_t * ONE.x) / b_t
    found = model.prior._clearer(s, t, z)
    ratio = a_t / a_s
    variance = b_t**2 - ratio**2 * b_s**2  # of q(z_t | z_s)
    precision = 1 / b_s**2 + ratio**2 / variance
    loc = (a_s * ONE.x / b_s**2 + ratio * z / variance) / precision
    torch.testing.assert_close(found.loc, loc)
    torch.testing.assert_close(found.scale.expand_as(loc), (1 / precision).sqrt().expand_as(loc))


@pytest.mark.parametrize("rule", [reparam, stl])
def test_whole_trajectories_have_the_elbo_that_is_known(rule):
    model = made(3)
    noise = sphere(8)
    estimate = rule(len(noise))(model, ONE, Given(noise, (2,) * 4, True))
    torch.testing.assert_close(estimate.value[0], discrete(model), rtol=1e-9, atol=1e-9)
    assert worst(by_part(estimate.surrogate.mean(), model), by_part(discrete(model), model)) < 1e-9


@pytest.mark.parametrize("sampling", ["uniform", "learned"])
def test_one_step_at_a_time_has_the_same_value_and_gradients(sampling):
    model = made(3)
    value, surrogate, mass = each(estimator_of(VDM, sampling), model)
    assert number((mass * value).sum()) == pytest.approx(number(discrete(model)), rel=1e-9)
    found, truth = by_part((mass * surrogate).sum(), model), by_part(discrete(model), model)
    assert worst(found, truth) < 1e-9
    assert value.std() > 0.1


def shifted(*args):
    return diffusion.misses(*args[:3], args[3] - 0.3)


def unweighted(*args):
    return diffusion.misses(*args).detach()


@pytest.mark.parametrize(("wrong", "value_too"), [(shifted, True), (unweighted, False)])
@pytest.mark.parametrize("kind", [VDM, VDMContinuous])
def test_another_level_or_a_net_that_is_not_trained_is_caught(kind, wrong, value_too, monkeypatch):
    monkeypatch.setattr(vdm if kind is VDM else vdm_continuous, "misses", wrong)
    model, exact = made(3), discrete if kind is VDM else continuous
    value, surrogate, mass = each(estimator_of(kind, "learned"), model, 1 if kind is VDM else 60)
    truth = exact(model)
    assert value_too == (abs(number((mass * value).sum() - truth)) > 1e-2)
    assert off(by_part((mass * surrogate).sum(), model), by_part(truth, model))["prior"] > 1e-2


def test_levels_swapped_in_a_step_are_caught(monkeypatch):
    monkeypatch.setattr(vdm_prior, "between", lambda s, t: (between(s, t)[0], -between(t, s)[1]))
    model, noise = made(3), sphere(8)
    value = reparam(len(noise))(model, ONE, Given(noise, (2,) * 4, True)).value[0]
    assert abs(number(value - discrete(model))) > 1e-2


@pytest.mark.parametrize("schedule", ["uniform", "learned"])
def test_continuous_time_is_an_integral_over_levels_whatever_the_schedule(schedule):
    model = made(3)
    value, surrogate, mass = each(estimator_of(VDMContinuous, schedule, 5), model, 200)
    truth = continuous(model)
    assert number((mass * value).sum()) == pytest.approx(number(truth), rel=1e-5)
    found, exact = by_part((mass * surrogate).sum(), model), by_part(truth, model)
    assert worst(found, exact) < 1e-4


def best(mean, variance):
    """The noise as data from N(mean, variance) would have it, and its expected squared error at one datum."""

    def share(gamma):
        alpha, sigma = alpha_sigma(gamma)
        return alpha, sigma, alpha * variance / (alpha**2 * variance + sigma**2)

    def noise(z, gamma):
        gamma = gamma[..., None] if gamma.dim() else gamma
        alpha, sigma, k = share(gamma)
        return (z - alpha * (mean + k * (z - alpha * mean))) / sigma

    def miss(model, gamma):
        alpha, sigma, k = share(gamma)
        squares = (ONE.x[0] - mean).square() * (1 - k * alpha) ** 2 + (k * sigma) ** 2
        return ((alpha / sigma) ** 2 * squares).sum()

    return noise, miss


MEAN, VARIANCE = torch.tensor([[0.4, -0.7], [0.5, 1.8]], dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_gaussian_data_with_the_best_net_have_the_known_bound(steps):
    model = made(steps)
    model.prior.noise, miss = best(MEAN, VARIANCE)
    value, _, mass = each(estimator_of(VDM, "uniform", steps), model)
    assert number((mass * value).sum()) == pytest.approx(number(discrete(model, miss)), rel=1e-9)
    noise = sphere(2 * steps + 2)
    whole = reparam(len(noise))(model, ONE, Given(noise, (2,) * (steps + 1), True)).value[0]
    torch.testing.assert_close(whole, discrete(model, miss), rtol=1e-9, atol=1e-9)


def integral(model):
    """Of the best net's error, over signal-to-noise ratios v: half of (d^2 + v c^2) / (1 + v c)^2, in closed form."""
    gamma = model.prior.schedule()
    d = (ONE.x[0] - MEAN).square()

    def up_to(v):
        return (-d / VARIANCE / (1 + v * VARIANCE) + torch.log1p(v * VARIANCE) + 1 / (1 + v * VARIANCE)).sum()

    return 0.5 * (up_to((-gamma[0]).exp()) - up_to((-gamma[-1]).exp()))


def test_gaussian_data_in_continuous_time_and_in_more_and_more_steps():
    short = []
    for steps in (1, 4, 16, 64):
        model = made(steps)
        with torch.no_grad():  # the same ends and even steps
            model.prior.schedule.start.fill_(-4.0)
            model.prior.schedule.log_span.fill_(math.log(7.0))
            model.prior.schedule.raw.zero_()
        model.prior.noise, miss = best(MEAN, VARIANCE)
        gamma = model.prior.schedule()
        truth = ends(model, gamma[0], gamma[-1]) - integral(model)
        for schedule in ("uniform", "learned"):
            value, _, mass = each(estimator_of(VDMContinuous, schedule, 5), model, 400)
            assert number((mass * value).sum()) == pytest.approx(number(truth), rel=1e-5)
        short.append(number(truth - discrete(model, miss)))
    assert short[0] > 3 * short[1] > 9 * short[2] > 27 * short[3] > 0


def test_without_its_net_it_is_best_for_standard_normal_data_and_tight_in_continuous_time():
    """Then every layer is standard normal, and with the exact decoder the bound is log p(x)."""
    model = made(3)
    gamma = model.prior.schedule()
    alpha, sigma = alpha_sigma(gamma[0].detach())
    with torch.no_grad():
        for p in model.prior.net.parameters():
            p.zero_()
        model.decoder.linear.weight.copy_(alpha * torch.eye(2))
        model.decoder.linear.bias.zero_()
        model.decoder.log_scale.fill_(float(sigma.log()))
    value, _, mass = each(estimator_of(VDMContinuous, "learned", 5), model, 400)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(ONE.x[0]).sum()
    assert number((mass * value).sum()) == pytest.approx(float(log_p), abs=1e-4)
    assert number(discrete(model)) < float(log_p) - 0.1


@pytest.mark.parametrize("kind", [VDM, VDMContinuous])
def test_levels_are_drawn_so_that_the_second_moment_falls(kind):
    """The gradient of its own is that of E[v^2] = sum of E f_j^2 / pi_j, and at the best pi it is zero."""
    model, estimator = made(3), estimator_of(kind, "learned")
    within = 1 if kind is VDM else 40

    def seen():
        value, surrogate, mass = each(estimator, model, within)
        (slope,) = torch.autograd.grad(-(mass * surrogate).sum(), [estimator.timesteps.raw])
        gamma = model.prior.schedule()
        at_ends = ends_at_nodes(model, len(value))
        v = (at_ends - value).detach().reshape(3, -1)
        pi = estimator.timesteps.raw.softmax(0).detach()
        return slope, (pi[:, None] * v).square().mean(1), gamma

    slope, squares, _ = seen()
    raw = estimator.timesteps.raw.detach().clone().requires_grad_()
    moment = (squares / raw.softmax(0)).sum()
    torch.testing.assert_close(slope, torch.autograd.grad(moment, raw)[0], rtol=1e-8, atol=1e-10)
    assert slope.abs().max() > 0.1
    even = float((squares * 3).sum())
    with torch.no_grad():
        estimator.timesteps.raw.copy_(squares.sqrt().log())
    slope, squares, _ = seen()
    assert slope.abs().max() < 1e-6 * even
    assert float((squares / squares.sqrt() * squares.sqrt().sum()).sum()) < 0.97 * even


def ends_at_nodes(model, rows):
    gamma, nodes = model.prior.schedule(), sphere(2)
    noise = nodes.repeat(rows // len(nodes), 1)
    many = Batch(ONE.x.expand(rows, -1), ONE.index.expand(rows))
    return diffusion.ends(model, many, Fixed(None, noise), 1, gamma[0], gamma[-1])


def test_a_ladder_of_draws_is_spread_evenly_and_each_is_likely_as_it_says():
    estimator = estimator_of(VDM, "learned", 4)
    rng = Fixed((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000, None)
    choice = estimator.timesteps.draw(rng, 3, 4000)
    mass = estimator.timesteps.raw.softmax(0)
    assert torch.equal(choice.bins.sum(-1), torch.ones(3, 4000, dtype=torch.float64))
    for row in choice.bins:
        torch.testing.assert_close(row.mean(0), mass, rtol=0, atol=3e-4)
    torch.testing.assert_close(choice.log_mass, choice.bins @ mass.log())
    assert choice.within.min() >= 0
    assert choice.within.mean() == pytest.approx(0.5, abs=1e-3)


class ForgetsTheLast(VDM):
    """The noisiest layer costs nothing."""

    def forward(self, model, batch, rng):
        made, signal = super().forward(model, batch, rng), model.encoder.signal(batch)
        alpha, sigma = alpha_sigma(model.prior.schedule()[-1])
        rate = DiagonalNormal(alpha * signal, sigma.expand_as(signal)).kl(DiagonalNormal(0 * signal, 0 * signal + 1))
        return Estimate(made.value + rate.detach(), made.surrogate + rate)


class SharesNoise(VDM):
    """All data see the same noise."""

    def forward(self, model, batch, rng):
        own = rng.normal
        rng.normal = lambda k, size, *event, dtype=None: own(k, 1, *event, dtype=dtype).expand(k, size, *event)
        return super().forward(model, batch, rng)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (ForgetsTheLast, ["exact[vdm,k=1]:prior"]),  # of the value it is a tenth of a nat, less than is resolved
        (SharesNoise, ["separable-draws[vdm,k=1]"]),
    ],
)
def test_the_judge_makes_a_small_diffusion_of_what_is_registered_and_catches_what_is_wrong_on_it(wrong, names):
    found = {check.name.replace("[vdm]", "[vdm,k=1]"): check for check in checks("estimator", wrong)}
    assert {run_check(found[name]).verdict for name in names} == {Verdict.FAIL}


@pytest.mark.parametrize("kind", [VDM, VDMContinuous])
def test_in_lanes_it_is_what_it_is_alone(kind):
    model, batch = made(3, (4,)), Batch(toys.batch(False).x[:, :2], torch.arange(5))
    estimator = estimator_of(kind, "learned")
    estimator.k = 2
    one, chosen = gradient_function(model, estimator, batch), keys(3)
    lanes, values = vmap(one, randomness="error")(chosen)
    for lane in range(3):
        gradients, value = one(chosen[lane])
        assert torch.allclose(values[lane], value, rtol=1e-10)
        assert all(torch.allclose(lanes[n][lane], g, rtol=1e-8, atol=1e-11) for n, g in gradients.items())
    assert all(g.any() for name, g in gradients.items() if "raw" not in name)


def test_binary_data_are_signs_and_layers_have_to_fit():
    encoder = VDMEncoder(Space((2, 2), "binary"), 2)
    x = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert encoder.signal(Batch(x, torch.arange(1))).tolist() == [[-1.0, 1.0, 1.0, -1.0]]
    assert encoder.z == Space((12,), layers=(4, 4, 4))
    for z in (Space((4,), layers=(4,)), Space((5,), layers=(2, 3))):
        with pytest.raises(Incompatible, match="as wide as each other"):
            VDMPrior(z)
    assert mixed(x, torch.tensor(0.0), 0 * x).max() == pytest.approx(0.5**0.5)
