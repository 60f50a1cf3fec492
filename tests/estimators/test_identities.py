"""Estimators against each other, and against their formulas written out, draw by draw."""

import pytest
import torch

from tests import toys
from tests.estimators.truth import model as known
from tests.gradients import gradient_function
from vbench.bounds import ELBO, IWAE, Renyi
from vbench.estimators.controls import LearnedBaseline, LeaveOneOut, Zero
from vbench.estimators.doubly import DoublyReparameterized
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.estimators.renyi import renyi
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.score import Score
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.oracles import conjugate
from vbench.rng import Rng
from vbench.types import Estimate

KEY = torch.tensor(5)


def result(estimator, where="mixture"):
    """Gradients by name and the value, at one key."""
    model, batch = known(where)
    gradients, value = gradient_function(model, estimator, batch)(KEY)
    return {**{name: g for name, g in gradients.items() if name.startswith("model.")}, "value": value}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: iwae(k=1), lambda: reparam(k=1)),
        (lambda: renyi(alpha=0.0, k=3), lambda: iwae(k=3)),
        (lambda: renyi(alpha=1.0, k=3), lambda: reparam(k=3)),
        (lambda: renyi(alpha=0.3, k=1), lambda: reparam(k=1)),
        (lambda: dreg(k=1), lambda: stl(k=1)),
    ],
    ids=["iwae1=elbo", "renyi0=iwae", "renyi1=elbo", "renyi-k1=elbo", "dreg1=stl"],
)
def test_the_same_estimator_by_another_name(one, other):
    assert_same(result(one()), result(other()))


def test_renyi_is_continuous_at_the_elbo():
    near, at = result(renyi(alpha=1 + 1e-6, k=3)), result(reparam(k=3))
    for name in at:
        torch.testing.assert_close(near[name], at[name], rtol=1e-4, atol=1e-4)


def test_renyi_decreases_in_alpha():
    values = torch.stack([result(renyi(alpha=a, k=4))["value"] for a in (-2.0, 0.0, 0.5, 1.0, 3.0)])
    assert (values.diff(dim=0) < 0).all()


def test_nvil_with_a_zero_baseline_is_reinforce():
    silent = nvil(toys.X, k=2, hidden=3).double()
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    assert_same(result(silent, "binary"), result(reinforce(k=2), "binary"))


def test_a_baseline_changes_the_encoder_alone():
    without, with_one = (
        result(reinforce(k=1), "binary"),
        result(toys.randomize(nvil(toys.X, k=1), 3), "binary"),
    )
    assert not torch.allclose(without["model.encoder.net.0.weight"], with_one["model.encoder.net.0.weight"])
    others = [name for name in without if not name.startswith("model.encoder")]
    assert_same({name: without[name] for name in others}, {name: with_one[name] for name in others})


def written_out(surrogate):
    """The batch-mean gradient of ``surrogate(log_p [K, B], score [K, B])`` at the draws of ``KEY``."""
    model, batch = known("mixture")

    class Written(torch.nn.Module):
        def forward(self, model, batch, rng):
            q = model.posterior(batch)
            z = q.draw(rng, 3).z.detach()
            score = q.log_prob(z)
            value = surrogate(model.log_joint(batch, z), score)
            return Estimate(value.detach(), value)

    gradients, _ = gradient_function(model, Written(), batch)(KEY)
    return gradients


def test_rloo_is_its_formula():
    def formula(log_p, score):
        f = (log_p - score).detach()
        return ((f - f.mean(0)) * score).sum(0) / (len(f) - 1) + log_p.mean(0)

    expected = written_out(formula)
    found = result(rloo(k=3))
    assert_same(expected, {name: found[name] for name in expected})


def test_vimco_is_its_formula():
    def formula(log_p, score):
        log_w = log_p - score
        f, bound = log_w.detach(), log_w.exp().mean(0).log()
        signal = []
        for k in range(3):
            rest = [f[j] for j in range(3) if j != k]
            geometric = torch.exp((rest[0] + rest[1]) / 2)
            signal.append(bound.detach() - ((rest[0].exp() + rest[1].exp() + geometric) / 3).log())
        return (torch.stack(signal) * score).sum(0) + bound

    expected = written_out(formula)
    found = result(vimco(k=3))
    assert_same(expected, {name: found[name] for name in expected})


def at_the_posterior():
    """A conjugate model in one latent, whose encoder gives the exact posterior."""
    model, batch = toys.linear_gaussian(latent=1), toys.batch(binary=False)
    weight, noise = model.decoder.linear.weight[:, 0], model.decoder.log_scale.exp()
    variance = 1 / (1 + (weight / noise).square().sum())
    gain = variance * weight / noise.square()
    linear = torch.nn.Linear(4, 2).double()
    with torch.no_grad():
        linear.weight.copy_(torch.stack([gain, torch.zeros(4)]))
        linear.bias.copy_(torch.stack([-gain @ model.decoder.linear.bias, 0.5 * variance.log()]))
    model.encoder.net = torch.nn.Sequential(linear)
    return model, batch


@pytest.mark.parametrize(("estimator", "silent"), [(stl(k=2), True), (dreg(k=3), True), (reparam(k=2), False)])
def test_at_the_posterior_the_path_is_silent_sample_by_sample(estimator, silent):
    model, batch = at_the_posterior()
    gradients, value = gradient_function(model, estimator, batch)(KEY)
    torch.testing.assert_close(value, conjugate.log_evidence(model, batch).detach())
    size = max(g.abs().max() for name, g in gradients.items() if name.startswith("model.encoder"))
    assert (size < 1e-12) == silent
    assert gradients["model.decoder.linear.weight"].abs().max() > 0.01


def test_leave_one_out_never_sees_its_own_sample():
    log_w = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stand_in, loss = LeaveOneOut()(log_w, toys.batch(size=3))
    changed = log_w.clone()
    changed[2] += 100
    moved, _ = LeaveOneOut()(changed, toys.batch(size=3))
    assert torch.equal(moved[2], stand_in[2])
    assert (moved[[0, 1, 3]] - stand_in[[0, 1, 3]] > 30).all()
    torch.testing.assert_close(stand_in[0], log_w[1:].mean(0))
    assert loss.shape == (3,)
    assert not loss.any()
    changed[2] = -torch.inf
    assert torch.equal(LeaveOneOut()(changed, toys.batch(size=3))[0][2], stand_in[2])


def test_no_control_passes_a_gradient_back_to_the_log_weights():
    batch = toys.batch(size=3)
    log_w = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    baseline = toys.randomize(LearnedBaseline(toys.X, hidden=3), 1)
    stand_in, loss = baseline(log_w, batch)
    assert not stand_in.requires_grad
    assert torch.autograd.grad(loss.sum(), [log_w], allow_unused=True) == (None,)
    for given in Zero()(log_w.detach(), batch):
        assert not given.any()


def test_the_learned_baseline_moves_towards_the_log_weight_by_its_own_loss_alone():
    estimator = toys.randomize(nvil(toys.X, k=3, hidden=3), 9)
    model, batch = known("binary")
    gradients, value = gradient_function(model, estimator, batch)(KEY)
    draw = model.posterior(batch).draw(Rng(KEY), 3)
    log_w = (model.log_joint(batch, draw.z) - draw.log_q).detach()
    torch.testing.assert_close(value, log_w.mean(0))
    net = estimator.control.net
    loss = (log_w / 4 - net(batch.x)[:, 0]).square().mean()
    expected = torch.autograd.grad(-loss, list(net.parameters()))
    for (name, _), wanted in zip(net.named_parameters(), expected, strict=True):
        torch.testing.assert_close(gradients[f"estimator.control.net.{name}"], wanted)


def test_the_scale_of_normalized_nvil_settles_at_the_signals_root_mean_square():
    estimator = nvil(toys.X, k=3, hidden=3, normalize=True).double()
    model, batch = known("binary")
    signal = estimator(model, batch, Rng(KEY))
    (slope,) = torch.autograd.grad(signal.surrogate.mean(), [estimator.log_scale])
    draw = model.posterior(batch).draw(Rng(KEY), 3)
    log_w = (model.log_joint(batch, draw.z) - draw.log_q).detach()
    contribution = (log_w - 4 * estimator.control.net(batch.x)[:, 0]) / 3
    torch.testing.assert_close(slope, contribution.square().mean() - 1)


class Untold:
    """A bound that leaves its curvature to be found."""

    kind, linear, smooth = "lower", False, True

    def __init__(self, bound):
        self.bound = bound

    def __call__(self, log_w):
        return self.bound(log_w)


@pytest.mark.parametrize("bound", [IWAE(), Renyi(0.5), Renyi(-2.0)], ids=str)
def test_a_curvature_is_found_where_the_bound_does_not_tell_it(bound):
    found = result(DoublyReparameterized(Untold(bound), 3))
    assert_same(result(DoublyReparameterized(bound, 3)), found)
    if bound == IWAE():
        doubled = Untold(bound)
        doubled.curvature = lambda log_w: 2 * bound.curvature(log_w)
        with pytest.raises(AssertionError):
            assert_same(result(DoublyReparameterized(doubled, 3)), found)


def test_what_a_rule_cannot_do_it_refuses():
    with pytest.raises(ValueError, match="not twice differentiable"):
        DoublyReparameterized(IWAE(smooth=False), 2)
    with pytest.raises(ValueError, match="needs an equivariant control there, not Zero"):
        Score(IWAE(), 3)
    with pytest.raises(ValueError, match="LeaveOneOut needs k of 2 or more, not 1"):
        Score(ELBO(), 1, LeaveOneOut())
