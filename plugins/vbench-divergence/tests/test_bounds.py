"""Bounds of log weights: closed forms of the conjugate case, identities, order, and what they claim."""

import itertools
import math
from itertools import pairwise

import pytest
import torch
from vbench_divergence import vbench_estimators
from vbench_divergence.cubo import Chi
from vbench_divergence.jvi import Jackknife
from vbench_divergence.miwae import averaged
from vbench_divergence.thermodynamic import Thermodynamic, schedule

from tests import toys
from vbench import ELBO, IWAE, Combined, Renyi
from vbench.builtin.plugin import vbench_estimators as core
from vbench.oracles import conjugate, quadrature

ESTIMATORS = {**core(), **vbench_estimators()}
UNIFORM5 = schedule(5, 0.5, "linear")


def conjugate_weights(n=100_000):
    """Log weights ``[n, 1]`` at the quantiles of q: z ~ N(0, 1), x | z ~ N(z, .7), x = 1.3, q = N(.2, .9)."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return log_weight(0.2 + 0.9**0.5 * torch.special.ndtri(u))[:, None]


def log_weight(z):
    """Written out, ``[n]``."""

    def log_normal(value, loc, variance):
        return -0.5 * ((value - loc).square() / variance + math.log(2 * math.pi * variance))

    log_joint = log_normal(z, 0.0, 1.0) + log_normal(torch.tensor(1.3), z, 0.7)
    return log_joint - log_normal(z, 0.2, 0.9)


@pytest.mark.parametrize(
    ("bound", "exact"),
    [
        (IWAE(), -1.6813114823),
        (ELBO(), -2.2704241762),
        (Renyi(0.5), -1.8774205334),
        (Renyi(-0.5), -1.56130485143),
        (Renyi(-1.0), -1.4793188496),
        (Thermodynamic(UNIFORM5), -1.7767946658),
        (Thermodynamic(UNIFORM5, right=True), -1.5995936991),
        (Thermodynamic((0.0, 1.0), right=True), -1.3844193429),
    ],
    ids=str,
)
def test_closed_forms_of_the_conjugate_gaussian_case(bound, exact):
    assert float(bound(conjugate_weights())) == pytest.approx(exact, abs=1e-4)


def test_a_chi_bound_is_a_renyi_bound():
    log_w = conjugate_weights()
    second_moment = (2 * (log_w - IWAE()(log_w))).exp().mean()
    assert float(second_moment) == pytest.approx(1.4977818774, abs=1e-4)
    cubo = ESTIMATORS["cubo"](order=2.0).bound
    assert float(cubo(log_w)) == pytest.approx(float(0.5 * (2 * log_w).exp().mean().log()))
    assert cubo.kind == "none"


def test_the_thermodynamic_integrand_is_what_quadrature_says():
    points, log_mass = quadrature.nodes(120)
    log_w, betas = log_weight(0.2 + 0.9**0.5 * points[:, 0]), torch.linspace(0, 1, 201, dtype=torch.float64)
    integrand = torch.stack([((b * log_w + log_mass).softmax(0) * log_w).sum() for b in betas])
    assert (integrand.diff() > 0).all()
    assert float(torch.trapezoid(integrand, betas)) == pytest.approx(-1.6813114823, abs=1e-4)
    for ends in (schedule(4, 0.05, "log"), schedule(3, 0.05, "linear")):
        for right in (False, True):
            terms = [(b - a) * ((b if right else a) * log_w + log_mass).softmax(0) @ log_w for a, b in pairwise(ends)]
            found = Thermodynamic(ends, right)(conjugate_weights())
            assert float(found) == pytest.approx(float(sum(terms)), abs=1e-4)


def weights(k=6, b=50):
    return 3 * torch.randn(k, b, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) - 40


def test_identities():
    log_w = weights()
    same = [
        (Thermodynamic((0.0, 1.0)), ELBO()),
        (Combined(1.0), ELBO()),
        (Combined(0.0), IWAE()),
        (Jackknife(0), IWAE()),
        (lambda w: averaged(IWAE(), w, 1), IWAE()),
        (lambda w: averaged(IWAE(), w, 6), ELBO()),
        (Renyi(0.0), IWAE()),
        (Renyi(1.0), ELBO()),
    ]
    for one, other in same:
        torch.testing.assert_close(one(log_w), other(log_w))
    for bound in (Thermodynamic(UNIFORM5), Combined(0.3), Renyi(-math.inf), IWAE()):
        torch.testing.assert_close(bound(log_w[:1]), ELBO()(log_w[:1]))
    assert [Thermodynamic((0.0, 1.0)).linear, Combined(1.0).linear] == [True, True]


@pytest.mark.parametrize("points", [schedule(1, 0.1, "log"), schedule(3, 0.02, "log"), UNIFORM5])
def test_thermodynamic_sums_stand_on_their_sides_of_the_weighted_bound_at_every_draw(points):
    log_w = weights()
    left, right, middle = Thermodynamic(points)(log_w), Thermodynamic(points, right=True)(log_w), IWAE()(log_w)
    assert (left <= middle + 1e-9).all()
    assert (right >= middle - 1e-9).all()
    assert (left >= ELBO()(log_w) - 1e-9).all()


@pytest.mark.parametrize(("order", "k"), [(1, 2), (1, 5), (2, 5), (3, 5)])
def test_the_jackknife_is_its_definition_by_loops(order, k):
    log_w = weights(k, 3)
    total = 0
    for j in range(order + 1):
        subsets = [IWAE()(log_w[list(rows)]) for rows in itertools.combinations(range(k), k - j)]
        weight = (-1) ** j * (k - j) ** order / (math.factorial(order - j) * math.factorial(j))
        total = total + weight * sum(subsets) / len(subsets)
    torch.testing.assert_close(Jackknife(order)(log_w), total)
    if order == 1:
        others = sum(IWAE()(torch.cat([log_w[:i], log_w[i + 1 :]])) for i in range(k)) / k
        torch.testing.assert_close(total, k * IWAE()(log_w) - (k - 1) * others)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_jackknife_of_gamma_weights_has_its_order_of_bias(order):
    # E log mean of n Gamma(a, 1) weights is digamma(a n) - log n; the evidence is log a
    a, n = 1.5, 200_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = torch.distributions.Gamma(torch.tensor(a, dtype=torch.float64), 1.0).sample((6, n)).log()

    def expected(k):
        total = 0.0
        for j in range(order + 1):
            weight = (-1) ** j * (k - j) ** order / (math.factorial(order - j) * math.factorial(j))
            total += weight * (torch.digamma(torch.tensor(a * (k - j), dtype=torch.float64)).item() - math.log(k - j))
        return total

    found = Jackknife(order)(values)
    assert abs(float(found.mean()) - expected(6)) < 4.5 * float(found.std()) / n**0.5
    ratio = (expected(20) - math.log(a)) / (expected(40) - math.log(a))
    # a Gamma's bias has no third order
    assert ratio == pytest.approx({0: 2, 1: 4, 2: 16}[order], rel=0.15)


def test_what_cannot_be_is_refused_in_one_line():
    with pytest.raises(ValueError, match="a jackknife of order 2 needs k of 3 or more, not 2"):
        ESTIMATORS["jvi"](order=2, k=2)
    with pytest.raises(ValueError, match="needs more than 1 samples, not 1"):
        Jackknife(1)(weights(1))


def test_the_exponential_form_of_the_chi_bound_is_what_has_no_bias():
    """Closed form: the encoder's field with a constant scale is minus the gradient of exp(n (CUBO - c)) / n."""
    model, batch = toys.linear_gaussian(1), toys.batch(binary=False, size=2)
    with torch.no_grad():
        model.encoder.net[-1].bias[1:] += 0.6  # wide enough for its second moment to exist
    cubo, scale = conjugate.renyi(model, batch, -1.0), -9.0
    assert cubo.isfinite().all()
    named = dict(model.encoder.named_parameters())
    exact = torch.autograd.grad(-((2 * (cubo - scale)).exp() / 2).mean(), list(named.values()))
    found = quadrature.target_gradient(model, batch, Chi(2.0, scale), 1, 160)
    length = torch.cat([g.flatten() for g in exact]).norm()
    for name, slope in zip(named, exact, strict=True):
        assert (found[f"encoder.{name}"] - slope).norm() < 1e-4 * length
    normalised = quadrature.target_gradient(model, batch, Chi(2.0), 2, 40)
    assert (normalised["encoder.net.0.weight"] - exact[0]).norm() > 1e-2 * exact[0].norm()


@pytest.mark.parametrize("level", [-90.0, -2000.0])
def test_the_jackknife_keeps_its_digits_in_single_precision(level):
    log_w = level + 3 * torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    exact = Jackknife(3)(log_w.double())
    torch.testing.assert_close(Jackknife(3)(log_w).double(), exact, rtol=0, atol=5e-3)
    nothing = log_w.masked_fill(torch.ones_like(log_w).bool(), -math.inf)
    assert not torch.isfinite(Jackknife(0)(nothing)).any()
