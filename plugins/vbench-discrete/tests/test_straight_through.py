"""Estimators that are declared biased: how much, where, and where not."""

import pytest
import torch
from torch import nn

from tests import toys
from tests.estimators.truth import model, truth
from tests.gradients import gradient_function, replicate, verdicts
from vbench import ELBO, Bernoulli, Categorical, Rng, Space, Trait
from vbench.oracles.enumeration import states

discrete = pytest.importorskip("vbench_discrete", reason="pip install ./plugins/vbench-discrete")
ESTIMATORS = discrete.vbench_estimators()
SPACES = {"binary": Space((3,), "binary"), "categorical": Space((2, 3), "categorical")}
FAMILIES = {"binary": Bernoulli, "categorical": Categorical}
both = pytest.mark.parametrize("where", ["binary", "categorical"])

# which parts are wrong
CASES = {
    "straight-through": ({}, {"encoder"}),
    "reinmax": ({}, {"encoder"}),
    "st-gumbel-softmax": ({}, {"encoder"}),
    "gumbel-softmax-discrete": ({"kl": "discrete"}, {"encoder", "decoder"}),
    "gumbel-softmax-relaxed": ({"kl": "relaxed"}, {"encoder", "decoder", "prior"}),
}


def build(name, where, **parameters):
    given = {**CASES[name][0], **parameters}
    return ESTIMATORS[name.removesuffix("-discrete").removesuffix("-relaxed")](z=SPACES[where], **given)


def bias(replicates, where, part="encoder"):
    """Length of the bias over that of the gradient, less its own noise, and the standard error."""
    samples = replicates.part(part)
    exact = torch.cat([g.flatten() for name, g in truth(where, ELBO(), 1)[1].items() if name.startswith(part)])
    square = (samples.mean(0) - exact).square().sum() - samples.var(0).sum() / len(samples)
    error = (samples.var(0).sum() / len(samples)).sqrt() / exact.norm()
    return float(square.clamp(min=0).sqrt() / exact.norm()), float(error)


@both
@pytest.mark.parametrize("name", CASES)
def test_it_is_declared_biased_and_is_where_it_is_said_to_be(name, where):
    estimator = build(name, where)
    assert not estimator.unbiased
    replicates = replicate(model(where)[0], estimator, model(where)[1], 4096, 0)
    found = verdicts(replicates, *truth(where, ELBO(), 1))
    assert {part for part, verdict in found.items() if not verdict.passed} == CASES[name][1], found
    size, error = bias(replicates, where)
    assert size > 2 * error


@both
@pytest.mark.parametrize(("name", "order"), [("straight-through", 1), ("reinmax", 2)])
def test_the_order_of_the_objective_up_to_which_it_is_exact(name, order, where):
    estimator, z = build(name, where), SPACES[where]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, *z.shape, generator=generator, dtype=torch.float64).requires_grad_()
    first = torch.randn(z.size, generator=generator, dtype=torch.float64)
    second = torch.randn(z.size, z.size, generator=generator, dtype=torch.float64)

    def deviation(power):
        def f(b):
            flat = b.flatten(2)
            terms = [flat @ first, ((flat @ second) * flat).sum(-1), (flat @ first).pow(3)]
            return sum(terms[:power])

        b = states(z)[:, None].requires_grad_()  # [S, 1, *Z]
        mass = FAMILIES[where](logits).log_prob(b.detach()).exp()
        (exact,) = torch.autograd.grad((mass * f(b.detach())).sum(), logits)
        (slope,) = torch.autograd.grad(f(b).sum(), b)
        found = estimator.backward(b.detach(), slope, logits.detach())
        return ((mass.reshape(-1, *[1] * (b.dim() - 1)) * found).sum(0) - exact[0]).norm() / exact.norm()

    assert [bool(deviation(power) < 1e-10) for power in (1, 2, 3)] == [power <= order for power in (1, 2, 3)]


class Linear(nn.Module):
    """f(b) is linear for the log weight."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def posterior(self, batch):
        return Bernoulli(self.logits)

    def log_joint(self, batch, z):
        return z @ z.new_tensor([2.0, -1.0, 0.5]) + Bernoulli(self.logits.detach()).log_prob(z)


def test_straight_through_is_exact_draw_by_draw_on_a_linear_objective():
    toy = Linear(torch.tensor([[0.7, -1.2, 0.1]], dtype=torch.float64))
    p = toy.logits.detach().sigmoid()
    for key in range(4):
        surrogate = build("straight-through", "binary")(toy, toys.batch(size=1), Rng(key)).surrogate
        (found,) = torch.autograd.grad(surrogate.sum(), toy.logits)
        torch.testing.assert_close(found, p * (1 - p) * p.new_tensor([2.0, -1.0, 0.5]))


def test_reinmax_weighs_a_binary_slope_by_half_the_distance_to_the_mean():
    estimator, logits = build("reinmax", "binary"), torch.tensor([[0.7, -1.2, 0.1]], dtype=torch.float64)
    b, slope = states(SPACES["binary"])[:, None], torch.ones(8, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(estimator.backward(b, slope, logits), (b - logits.sigmoid()).abs() / 2)


@both
def test_a_colder_relaxation_has_less_bias_and_more_variance(where):
    found = {}
    for temperature in (0.1, 1.0):
        estimator = build("gumbel-softmax-discrete", where, temperature=temperature)
        replicates = replicate(model(where)[0], estimator, model(where)[1], 4096, 0)
        found[temperature] = (bias(replicates, where)[0], float(replicates.part("encoder").var(0).sum()))
    assert found[0.1][0] < 0.5 * found[1.0][0]
    assert found[0.1][1] > found[1.0][1]


@both
def test_both_objectives_meet_the_discrete_one_at_temperature_zero(where):
    """At hard draws the relaxed likelihood is the discrete one; the closed KL is that of the densities."""
    where_model, batch = model(where)
    cold = build("gumbel-softmax-discrete", where, temperature=1e-6, k=4)
    estimate = cold(where_model, batch, Rng(3))
    q = where_model.posterior(batch)
    b = q.draw(Rng(3), 4).z
    expected = where_model.log_likelihood(batch, b).mean(0) - q.kl(where_model.prior_density(batch))
    torch.testing.assert_close(estimate.surrogate, expected, rtol=1e-6, atol=1e-6)
    log_w = where_model.log_joint(batch, b) - q.log_prob(b)
    torch.testing.assert_close(estimate.value, log_w.mean(0).detach())


@both
def test_the_relaxed_objective_is_a_bound_of_the_relaxed_models_evidence(where):
    """Where prior and posterior relax alike the divergence is that of two Concrete densities: never negative."""
    where_model, batch = model(where)
    estimator = build("gumbel-softmax-relaxed", where, temperature=0.6, prior_temperature=0.6, k=4000)
    fit = build("gumbel-softmax-discrete", where, temperature=0.6, k=4000)
    q, p = where_model.posterior(batch), where_model.prior_density(batch)
    divergence = fit(where_model, batch, Rng(1)).surrogate - estimator(where_model, batch, Rng(1)).surrogate
    divergence = divergence + q.kl(p)
    assert (divergence > 0).all()
    # the discrete draw is a function of the relaxed one, which can so be told apart no worse
    assert (divergence > q.kl(p) - 0.05).all()


def test_the_hard_forward_pass_of_st_gumbel_softmax_has_hard_latents():
    where_model, batch = model("binary")
    seen = []
    handle = where_model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    build("st-gumbel-softmax", "binary", k=3)(where_model, batch, Rng(2))
    handle.remove()
    torch.testing.assert_close(seen[0], seen[0].round(), rtol=0, atol=1e-15)


def test_the_variants_need_what_they_use():
    kl = {Trait.KL, Trait.FACTORIZED_PRIOR}
    assert {name for name in CASES if build(name, "binary").needs >= kl} == {n for n in CASES if "gumbel" in n}
    real = ESTIMATORS["straight-through"](z=Space((2,)))
    assert Trait.latent("binary") in real.needs


def test_straight_through_differs_from_reinmax_by_the_second_order_alone():
    where_model, batch = model("binary")
    one, other = (
        gradient_function(where_model, build(name, "binary"), batch)(torch.tensor(4))[0]
        for name in ("straight-through", "reinmax")
    )
    same = [name for name in one if torch.allclose(one[name], other[name])]
    assert {name.split(".")[1] for name in same} == {"decoder", "prior"}
