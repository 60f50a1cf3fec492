"""Bounds as functions: what holds for any log weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vbench.bounds import ELBO, IWAE, Renyi

BOUNDS = [ELBO(), IWAE(), Renyi(-2.0), Renyi(-0.5), Renyi(0.0), Renyi(0.5), Renyi(1.0), Renyi(3.0)]
LIMITS = [Renyi(-math.inf), Renyi(math.inf)]
every = pytest.mark.parametrize("bound", [*BOUNDS, *LIMITS], ids=str)
finite = pytest.mark.parametrize("bound", BOUNDS, ids=str)
always = settings(deadline=None, database=None, derandomize=True, max_examples=50)


@st.composite
def log_weights(draw, magnitude=50.0, least=1):
    k, b = draw(st.integers(least, 5)), draw(st.integers(1, 3))
    number = st.floats(-magnitude, magnitude, allow_subnormal=False)
    rows = draw(st.lists(st.lists(number, min_size=b, max_size=b), min_size=k, max_size=k))
    return torch.tensor(rows, dtype=torch.float64)


@every
@always
@given(log_w=log_weights(), data=st.data())
def test_the_order_of_samples_does_not_matter(bound, log_w, data):
    order = data.draw(st.permutations(range(len(log_w))))
    torch.testing.assert_close(bound(log_w[order]), bound(log_w))


@every
@always
@given(log_w=log_weights(), shift=st.floats(-1e4, 1e4))
def test_a_shift_of_all_log_weights_shifts_the_bound(bound, log_w, shift):
    torch.testing.assert_close(bound(log_w + shift), bound(log_w) + shift)


@every
@always
@given(log_w=log_weights(), data=st.data())
def test_it_never_falls_when_a_weight_rises_and_lies_between_least_and_largest(bound, log_w, data):
    row = data.draw(st.integers(0, len(log_w) - 1))
    raised = log_w.clone()
    raised[row] += data.draw(st.floats(0, 30))
    assert (bound(raised) >= bound(log_w) - 1e-9).all()
    assert (bound(log_w) <= log_w.amax(0) + 1e-9).all()
    assert (bound(log_w) >= log_w.amin(0) - 1e-9).all()


@always
@given(log_w=log_weights(), alphas=st.tuples(st.floats(-3, 3), st.floats(-3, 3)))
def test_renyi_falls_in_alpha_from_iwae_to_the_elbo(log_w, alphas):
    low, high = sorted(alphas)
    # at an alpha next to one the quotient has few digits left
    slack = 1e-9 + 1e-11 / min(abs(1 - a) or 1 for a in alphas)
    assert (Renyi(low)(log_w) >= Renyi(high)(log_w) - slack).all()
    assert (IWAE()(log_w) >= ELBO()(log_w) - 1e-9).all()
    torch.testing.assert_close(Renyi(0.0)(log_w), IWAE()(log_w))
    assert torch.equal(Renyi(1.0)(log_w), ELBO()(log_w))


@every
@always
@given(log_w=log_weights(magnitude=1e30))
def test_large_magnitudes_stay_finite_in_value_and_gradient(bound, log_w):
    log_w.requires_grad_()
    value = bound(log_w)
    (slope,) = torch.autograd.grad(value.sum(), log_w)
    assert value.isfinite().all()
    # weights of the samples: positive, summing to one
    assert (slope >= 0).all()
    torch.testing.assert_close(slope.sum(0), torch.ones_like(slope[0]))


@every
def test_data_do_not_interact_and_equal_weights_give_themselves(bound):
    log_w = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bound(log_w)[1], bound(log_w[:, 1:2])[0])
    torch.testing.assert_close(bound(log_w[:1]), log_w[0])
    torch.testing.assert_close(bound(log_w[:1].expand(6, -1)), log_w[0])
    assert bound(log_w.float()).dtype == torch.float32


@finite
def test_the_curvature_that_it_tells_is_the_diagonal_of_its_hessian(bound):
    log_w = 2 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 700
    hessian = torch.autograd.functional.hessian(lambda w: bound(w).sum(), log_w)
    torch.testing.assert_close(bound.curvature(log_w), torch.einsum("kbkb->kb", hessian))


@finite
def test_a_vanished_weight_costs_what_it_should(bound):
    log_w = torch.tensor([[0.0], [-math.inf]], dtype=torch.float64)
    power = 1 - getattr(bound, "alpha", 0.0)
    expected = -math.inf if bound.linear or power < 0 else -math.log(2) / power
    assert float(bound(log_w)) == pytest.approx(expected)


@every
def test_claims(bound):
    log_w = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert bound.linear == torch.allclose(bound(log_w), log_w.mean(0))
    assert bound.smooth == (bound not in LIMITS)
    assert bound.kind == ("none" if getattr(bound, "alpha", 0.0) < 0 else "lower")
    assert bound == type(bound)(*([bound.alpha] if isinstance(bound, Renyi) else []))


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_limits_in_alpha_are_the_largest_and_the_least(sign):
    log_w = torch.tensor([[-7.0, 2.0], [-3.0, -1.0], [-5.5, 0.5]], dtype=torch.float64, requires_grad=True)
    limit = Renyi(sign * math.inf)
    torch.testing.assert_close(limit(log_w), Renyi(sign * 1e4)(log_w), atol=2e-4, rtol=0)
    assert limit(log_w).tolist() == ([-3.0, 2.0] if sign < 0 else [-7.0, -1.0])
    (slope,) = torch.autograd.grad(limit(log_w).sum(), log_w)
    assert slope.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]] if sign < 0 else [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_renyi_near_one_approaches_the_elbo():
    log_w = 3 * torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for alpha in (1 - 1e-6, 1 + 1e-6):
        torch.testing.assert_close(Renyi(alpha)(log_w), ELBO()(log_w), atol=2e-5, rtol=0)


def test_iwae_moments_of_gamma_weights():
    # E log mean of K independent Gamma(a, 1) weights is digamma(aK) - log K, its variance trigamma(aK)
    a, k, n = 0.7, 5, 200_000
    torch_gamma = torch.distributions.Gamma(torch.tensor(a, dtype=torch.float64), 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = IWAE()(torch_gamma.sample((k, n)).log())
    mean = torch.digamma(torch.tensor(a * k)).item() - math.log(k)
    spread = torch.special.polygamma(1, torch.tensor(a * k)).item() ** 0.5
    assert abs(values.mean().item() - mean) < 4.5 * spread / n**0.5
    assert values.std().item() == pytest.approx(spread, rel=0.02)
