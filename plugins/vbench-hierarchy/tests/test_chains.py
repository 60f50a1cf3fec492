"""Hierarchies against the closed forms of linear-Gaussian ones, and wrong twins of each."""

import copy
import functools

import gaussian_chains as exact
import pytest
import torch
from gaussian_chains import MADE, by_part, given, off
from torch.func import vmap
from vbench_hierarchy.chain import Chain
from vbench_hierarchy.hierarchy_encoder import HierarchyEncoder
from vbench_hierarchy.hierarchy_prior import HierarchyPrior
from vbench_hierarchy.ladder import Ladder

from tests import toys
from tests.gradients import gradient_function, keys
from vbench import Batch, DiagonalNormal, Draw, GaussianEncoder, Model, Rng, frozen, gradient_moments
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.oracles.quadrature import nodes

BATCH = toys.batch(binary=False)
kinds = pytest.mark.parametrize("kind", MADE)


def forgets_a_layer(chain, z):
    return chain.first.log_prob(z.split(chain.layers, -1)[0 if chain.upward else -1])


def swaps_the_condition(chain, z):
    """Of two layers as wide, the first given the second."""
    given, layer = z.split(chain.layers, -1)[:: 1 if chain.upward else -1]
    return chain.first.log_prob(layer) + chain.rest[0](layer).log_prob(given)


def densities(model):
    """Log q and log p of a stack, by the parts and by the stack's joint normal."""
    z = torch.linspace(-1.5, 2, 2 * 5 * model.encoder.z.size, dtype=torch.float64).reshape(2, 5, -1).sin()
    ours = torch.stack([model.posterior(BATCH).log_prob(z), model.prior_density(BATCH).log_prob(z)])
    theirs = (exact.posterior(model, BATCH), exact.prior(model, BATCH))
    return ours, torch.stack([stack.normal.log_prob(z) for stack in theirs])


@kinds
@pytest.mark.parametrize("latent", [(2, 3), (1, 2, 1)])
def test_the_density_is_that_of_the_joint_normal(kind, latent):
    ours, theirs = densities(exact.model(kind, latent))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@kinds
@pytest.mark.parametrize("wrong", [forgets_a_layer, swaps_the_condition])
def test_a_lost_layer_or_a_swapped_condition_is_another_density(kind, wrong, monkeypatch):
    monkeypatch.setattr(Chain, "log_prob", wrong)
    ours, theirs = densities(exact.model(kind, (2, 2)))
    assert ((ours - theirs).abs().amax((1, 2)) > 0.1).all()


@kinds
def test_draws_are_an_affine_map_of_the_noise_and_know_their_density(kind):
    model = exact.model(kind, (1, 2, 1))
    noise = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made, stack = model.posterior(BATCH).draw(given(model, noise), 7), exact.posterior(model, BATCH)
    torch.testing.assert_close(made.z, stack.mean + (stack.factor @ noise[:, None, :, None])[..., 0])
    torch.testing.assert_close(made.log_q, model.posterior(BATCH).log_prob(made.z))
    free = model.prior_density(None).draw(Rng(1), 6)
    assert free.z.shape == (6, 1, 4)
    assert model.likelihood(None, free.z).sample(Rng(2)).shape == (6, 1, 4)
    torch.testing.assert_close(free.log_q, model.prior_density(None).log_prob(free.z))


@kinds
def test_weights_are_proper(kind):
    """E[w] = p(x) and E[w z] = p(x) E[z | x], by quadrature over the noise."""
    model = exact.model(kind, (1, 1))
    noise, log_mass = nodes(80, 2)
    with torch.no_grad():
        draw = model.posterior(BATCH).draw(given(model, noise), len(noise))
        terms = model.log_joint(BATCH, draw.z) - draw.log_q + log_mass[:, None]
        torch.testing.assert_close(terms.logsumexp(0), exact.log_evidence(model, BATCH), rtol=0, atol=1e-6)
        mean = (terms.softmax(0)[..., None] * draw.z).sum(0)
        torch.testing.assert_close(mean, exact.true_mean(model, BATCH), rtol=0, atol=1e-5)


def sphere(model):
    """Noise at which averages of whatever is quadratic in it are exact: both ends of each axis."""
    size = model.encoder.z.size
    axes = size**0.5 * torch.eye(size, dtype=torch.float64)
    return torch.cat([axes, -axes])


def expected(model, rule):
    """The expectation of a rule's gradient of the ELBO."""
    noise = sphere(model)
    return by_part(rule(len(noise))(model, BATCH, given(model, noise)).surrogate.mean(), model)


@kinds
@pytest.mark.parametrize("rule", [reparam, stl])
def test_gradients_are_exact_part_by_part(kind, rule):
    model = exact.model(kind, (2, 1))
    truth = by_part(exact.elbo(model, BATCH).mean(), model)
    assert max(off(expected(model, rule), truth).values()) < 1e-9
    assert min(float(g.norm()) for g in truth.values()) > 0.1


def stops_between_layers(chain, rng, k):
    z, log_q, _ = chain.first.draw(rng, k)
    drawn = [z]
    for step in chain.rest:
        normal = step(drawn[-1].detach())
        drawn.append(normal.sample(rng))
        log_q = log_q + normal.log_prob(drawn[-1])
    return Draw(torch.cat(drawn if chain.upward else drawn[::-1], -1), log_q)


@kinds
@pytest.mark.parametrize("rule", [reparam, stl])
def test_a_path_that_ends_between_layers_is_caught(kind, rule, monkeypatch):
    model = exact.model(kind, (2, 1))
    truth = by_part(exact.elbo(model, BATCH).mean(), model)
    monkeypatch.setattr(Chain, "draw", stops_between_layers)
    assert off(expected(model, rule), truth)["encoder"] > 1e-2


def keeps_the_prior_out(forward):
    """q of the prior's steps, which get no gradient through it."""

    @functools.wraps(forward)
    def wrong(encoder, batch, model):
        return forward(encoder, batch, Model(model.encoder, model.decoder, frozen(model.prior)))

    return wrong


@pytest.mark.parametrize("kind", ["lvae", "top-down"])
@pytest.mark.parametrize("rule", [reparam, stl])
def test_gradients_reach_the_prior_through_q(kind, rule, monkeypatch):
    model = exact.model(kind, (2, 1))
    truth = by_part(exact.elbo(model, BATCH).mean(), model)
    monkeypatch.setattr(Ladder, "forward", keeps_the_prior_out(Ladder.forward))
    found = off(expected(model, rule), truth)
    assert found["prior"] > 1e-2
    assert max(found["encoder"], found["decoder"]) < 1e-9


@functools.cache
def pairs(count=14):
    """Nodes of the noise of two samples of two latents, ``[2, S, 2]``, and their mass ``[S]``."""
    points, log_mass = nodes(count, 4)
    kept = log_mass > -30
    return points[kept].reshape(-1, 2, 2).movedim(1, 0), log_mass[kept].exp()


def of_two_samples(kind, rule):
    """A rule's expected gradient of its bound, and that of the two-sample bound by the stack's own densities."""
    model, (noise, mass) = exact.model(kind, (1, 1)), pairs()
    one = BATCH._replace(x=BATCH.x[1:2], index=BATCH.index[1:2])
    many = Batch(one.x.expand(len(mass), -1), one.index.expand(len(mass)))
    found = by_part((mass * rule(2)(model, many, given(model, noise)).surrogate).sum(), model)
    q = exact.posterior(model, one)
    log_w = exact.log_weight(model, one, (q.mean + (q.factor @ noise[..., None])[..., 0]).flatten(0, 1)[:, None])
    bound = log_w.reshape(2, -1).logsumexp(0) - torch.log(torch.tensor(2.0))
    return found, by_part((mass * bound).sum(), model)


@kinds
@pytest.mark.parametrize(("rule", "error"), [(iwae, 1e-6), (dreg, 1e-3), (vimco, 1e-3)])
def test_gradients_of_the_two_sample_bound(kind, rule, error):
    found, truth = of_two_samples(kind, rule)
    assert max(off(found, truth).values()) < error


@pytest.mark.parametrize("rule", [iwae, dreg])
def test_a_prior_kept_out_of_q_is_caught_there_too(rule, monkeypatch):
    monkeypatch.setattr(Ladder, "forward", keeps_the_prior_out(Ladder.forward))
    found, truth = of_two_samples("lvae", rule)
    assert off(found, truth)["prior"] > 1e-2


def test_a_score_that_lacks_a_layer_is_caught(monkeypatch):
    monkeypatch.setattr(Chain, "log_prob", forgets_a_layer)
    found, truth = of_two_samples("hierarchy", vimco)
    assert off(found, truth)["encoder"] > 0.1


def test_the_ladder_multiplies_two_normals():
    said = DiagonalNormal(*torch.tensor([[[0.7, -1.2]], [[0.5, 1.4]]], dtype=torch.float64))
    step = DiagonalNormal(*torch.tensor([[[[-0.4, 0.3]]], [[[0.9, 0.6]]]], dtype=torch.float64))
    found = MADE["lvae"](toys.REAL, (2, 2)).blend(step, said)
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    for d in range(2):
        product = (
            torch.stack(
                [
                    DiagonalNormal(n.loc[..., d : d + 1], n.scale[..., d : d + 1]).log_prob(z[:, None, None])
                    for n in (said, step)
                ]
            )
            .sum(0)[:, 0]
            .softmax(0)
        )
        mean = (product * z).sum()
        assert float(found.loc[0, 0, d]) == pytest.approx(float(mean), abs=1e-9)
        assert float(found.scale[0, 0, d]) == pytest.approx(float((product * (z - mean) ** 2).sum().sqrt()), abs=1e-9)


def test_one_layer_is_the_plain_gaussian_model():
    plain = toys.linear_gaussian()
    encoder = HierarchyEncoder(toys.REAL, (2,), ((3,),)).double()
    encoder.nets[0].net.load_state_dict(plain.encoder.net.state_dict())
    layered = Model(encoder, plain.decoder, HierarchyPrior(encoder.z, ()).double())
    for rule in (reparam(3), iwae(3), stl(3), rloo(3)):
        ours, theirs = (rule(model, BATCH, Rng(4)) for model in (layered, plain))
        torch.testing.assert_close(ours.value, theirs.value)
        mine, other = (
            torch.autograd.grad(e.surrogate.sum(), list(m.encoder.parameters()))
            for e, m in ((ours, layered), (theirs, plain))
        )
        torch.testing.assert_close(mine, other)
    assert isinstance(plain.prior, StandardNormalPrior)
    assert isinstance(plain.encoder, GaussianEncoder)


def bernoulli(kind, latent=(2, 3), size=0.4):
    encoder = MADE[kind](toys.X, latent)
    prior = HierarchyPrior(encoder.z, ((4,),) * (len(latent) - 1))
    decoder = type(toys.gaussian().decoder)(toys.X, encoder.z.bottom, toys.MEAN, hidden=(3,))
    return toys.randomize(Model(encoder, decoder, prior), 5, size), toys.batch()


@kinds
def test_frozen_and_in_lanes_it_is_what_it_is_alone(kind):
    model, batch = bernoulli(kind)
    still, live = frozen(model).posterior(batch).draw(Rng(1), 2), model.posterior(batch).draw(Rng(1), 2)
    assert torch.equal(still.z, live.z)
    assert live.z.requires_grad
    assert not still.z.requires_grad
    one, chosen = gradient_function(model, stl(2), batch), keys(3)
    lanes, values = vmap(one, randomness="error")(chosen)
    for lane in range(3):
        gradients, value = one(chosen[lane])
        assert torch.allclose(values[lane], value, rtol=1e-10)
        assert all(torch.allclose(lanes[n][lane], g, rtol=1e-8, atol=1e-11) for n, g in gradients.items())


@pytest.mark.parametrize("kind", ["hierarchy", "lvae"])
def test_variance_datum_by_datum_is_that_of_a_loop(kind):
    model, batch = bernoulli(kind, size=0.2)
    fast = gradient_moments(model, reparam(1), batch, draws=1000, key=1, method="moments")
    slow = gradient_moments(model, reparam(1), batch, draws=1000, key=2, method="vmap")
    for part in exact.PARTS:
        error = (fast.std_error[part] ** 2 + slow.std_error[part] ** 2) ** 0.5
        assert abs(fast.variance[part] - slow.variance[part]) < 4.5 * error
        assert error < 0.3 * slow.variance[part]


def rounding(model, batch):
    """How far gradients in single precision are from those in double."""
    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    low, high = (
        by_part(reparam(len(noise))(made, some, given(made, noise.to(some.x.dtype))).surrogate.mean(), made)
        for made, some in ((copy.deepcopy(model).float(), batch._replace(x=batch.x.float())), (model, batch))
    )
    return max(off({part: g.double() for part, g in low.items()}, high).values())


@pytest.mark.parametrize("kind", ["lvae", "top-down"])
def test_a_step_that_no_datum_needs_does_not_end_training(kind):
    model, batch = bernoulli(kind, (2, 2))
    model.held = {}
    step = model.prior.nets[0]
    with torch.no_grad():
        for parameter in model.encoder.heads[0].parameters():
            parameter.zero_()
        step.net[-1].bias.copy_(torch.tensor([5.0, -4.0, -14.0, -14.0]))
    assert rounding(model, batch) < 0.02
    step.floor = 0.0
    assert not rounding(model, batch) < 1
