"""Fitted, refined and smoothed posteriors against closed forms and differences, and wrong twins of each."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.func import grad, vmap
from vbench_local import semi_amortized, vbench_encoders
from vbench_local.denoising import DenoisingEncoder
from vbench_local.semi_amortized import SemiAmortizedEncoder
from vbench_local.svi import SVI
from vbench_local.weight_normalized import WeightNormalizedEncoder

from tests import toys
from tests.gradients import gradient_function, keys
from vbench import ELBO, Batch, Estimate, Estimator, GaussianEncoder, Model, Rng, build, frozen, load, run
from vbench.estimators.reparam import reparam
from vbench.estimators.stl import stl
from vbench.grid import InferenceGap, LogLikelihood, Measure, Train
from vbench.measure.evaluations import decoder_evaluations
from vbench.measure.refit import ascend
from vbench.measure.schedule import evaluate
from vbench.measure.throughput import Stopwatch
from vbench.oracles import conjugate
from vbench.training import train

MADE = {
    "denoising": lambda x, latent: DenoisingEncoder(x, latent, (3,), noise=0.7),
    "semi-amortized": lambda x, latent: SemiAmortizedEncoder(x, latent, (3,), steps=3, rate=0.2),
    "svi": lambda x, latent: SVI(5, latent, pace=1.5),
    "weight-normalized": lambda x, latent: WeightNormalizedEncoder(x, latent, (3,), norm=1.3),
}


def bernoulli(encoder, seed=4):
    plain = toys.gaussian()
    return Model(toys.randomize(encoder, seed, 0.3), plain.decoder, plain.prior), toys.batch()


def linear(encoder, seed=4):
    plain = toys.linear_gaussian()
    return Model(toys.randomize(encoder, seed, 0.3), plain.decoder, plain.prior), toys.batch(binary=False)


def short(model, batch):
    """Nats below the best diagonal normal."""
    _, covariance = conjugate.posterior(model, batch)
    best = -0.5 * (covariance.logdet() + torch.linalg.inv(covariance).diagonal().log().sum())
    return (conjugate.log_evidence(model, batch) + best - conjugate.elbo(model, batch)).detach()


def test_every_encoder_of_this_package_is_here():
    assert set(MADE) == set(vbench_encoders())


@pytest.mark.parametrize("name", MADE)
def test_frozen_and_in_lanes_it_is_what_it_is_alone(name):
    model, batch = bernoulli(MADE[name](toys.X, 2))
    batch = batch._replace(key=torch.tensor(9))
    still, live = frozen(model).posterior(batch), model.posterior(batch)
    assert torch.equal(still.loc, live.loc)
    assert torch.equal(still.scale, live.scale)
    assert live.loc.requires_grad
    assert not still.loc.requires_grad
    with torch.no_grad():
        assert torch.allclose(model.posterior(batch).loc, live.loc, rtol=1e-12)
    one, chosen = gradient_function(model, stl(2), batch), keys(3)
    lanes, values = vmap(one, randomness="error")(chosen)
    for lane in range(3):
        gradients, value = one(chosen[lane])
        assert torch.allclose(values[lane], value, rtol=1e-10)
        assert all(torch.allclose(lanes[n][lane], g, rtol=1e-8, atol=1e-11) for n, g in gradients.items())


def slope(model, batch, part, estimator=None, size=1e-5):
    """Derivative of the objective along one direction of a part: by the surrogate, and by a difference of values."""
    estimator = estimator or reparam(2)
    parameters = [p for name, p in model.named_parameters() if name.startswith(part)]
    generator = torch.Generator().manual_seed(2)
    along = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    found = torch.autograd.grad(estimator(model, batch, Rng(3)).surrogate.mean(), parameters)
    values = []
    for step in (size, -size):
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p += step * v
            values.append(float(estimator(model, batch, Rng(3)).value.mean()))
            for p, v in zip(parameters, along, strict=True):
                p -= step * v
    return float(sum((g * v).sum() for g, v in zip(found, along, strict=True))), (values[0] - values[1]) / (2 * size)


@pytest.mark.parametrize("part", ["encoder", "decoder", "prior"])
@pytest.mark.parametrize("name", MADE)
def test_the_gradient_is_the_derivative_of_the_objective(name, part):
    model, batch = bernoulli(MADE[name](toys.X, 2))
    ours, difference = slope(model, batch._replace(key=torch.tensor(5)), part)
    assert ours == pytest.approx(difference, rel=1e-6)
    assert abs(difference) > 1e-3


def by_constant_steps(function):
    return lambda *inputs: grad(function)(*inputs).detach()


@pytest.mark.parametrize("part", ["encoder", "decoder", "prior"])
def test_steps_that_are_taken_for_constants_give_another_gradient(part, monkeypatch):
    monkeypatch.setattr(semi_amortized, "grad", by_constant_steps)
    model, batch = bernoulli(MADE["semi-amortized"](toys.X, 2))
    ours, difference = slope(model, batch, part)
    assert ours != pytest.approx(difference, rel=1e-2)


def test_no_step_is_the_nets_own_guess_and_more_steps_come_nearer():
    falls = []
    for steps in (0, 2, 8, 60):
        model, batch = linear(SemiAmortizedEncoder(toys.REAL, 2, (3,), steps=steps, rate=0.1, samples=20))
        falls.append(short(model, batch).mean())
        if steps == 0:
            plain, _ = linear(GaussianEncoder(toys.REAL, 2, (3,)))
            assert torch.equal(model.posterior(batch).loc, plain.posterior(batch).loc)
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] < 0.05 < falls[1]


def test_a_step_is_the_gradient_of_the_elbo_on_average():
    model, batch = linear(SemiAmortizedEncoder(toys.REAL, 2, (3,), steps=1, rate=0.01, samples=20_000))
    net, q = GaussianEncoder.forward(model.encoder, batch, model), model.posterior(batch)
    leaves = net.loc.detach().requires_grad_(), net.scale.detach().log().requires_grad_()
    fixed = SimpleNamespace(loc=leaves[0], scale=leaves[1].exp())
    fixed.log_prob = type(net)(fixed.loc, fixed.scale).log_prob

    class Given(torch.nn.Module):
        z = model.encoder.z

        def forward(self, batch, model):
            return type(net)(fixed.loc, fixed.scale)

    exact = torch.autograd.grad(conjugate.elbo(Model(Given(), model.decoder, model.prior), batch).sum(), leaves)
    moved = (q.loc - net.loc) / 0.01, (q.scale.log() - net.scale.log()) / 0.01
    for ours, wanted in zip(moved, exact, strict=True):
        assert torch.allclose(ours.detach(), wanted, atol=0.1, rtol=0.03)
        assert wanted.abs().max() > 0.5


def test_its_noise_is_the_batchs():
    model, batch = bernoulli(MADE["semi-amortized"](toys.X, 2))
    first, again, other = (model.posterior(batch._replace(key=torch.tensor(key))).loc for key in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_table_converges_to_the_closed_form():
    model, batch = linear(SVI(5, 2, pace=3.0))
    assert short(model, batch).min() > 0.1
    ascend([model.encoder.table], lambda step: stl(4)(model, batch, Rng(step)).surrogate, 400, 0.03)
    assert short(model, batch).max() < 0.01
    mean, _ = conjugate.posterior(model, batch)
    assert torch.allclose(model.posterior(batch).loc, mean, atol=0.15)


def test_a_table_knows_its_data_by_their_index_alone():
    model, batch = linear(SVI(5, 2))
    turned = Batch(batch.x.flip(0), batch.index)
    assert torch.equal(model.posterior(turned).loc, model.posterior(batch).loc)
    assert torch.equal(
        model.posterior(batch._replace(index=batch.index.flip(0))).loc, model.posterior(batch).loc.flip(0)
    )
    made = model.encoder.refit(3)
    assert (made.table.shape, made.table.dtype) == ((3, 4), torch.float64)
    assert not made.table.any()


def measured(encoder, **more):
    cell = build(
        dataset="linear-gaussian[latent=2]",
        encoder=encoder,
        decoder="linear-gaussian",
        prior="standard-normal",
        estimator="stl",
    )
    before = {name: tensor.clone() for name, tensor in cell.model.state_dict().items()}
    settings = Measure(
        data=30, samples=200, log_likelihood=LogLikelihood(k=400), inference_gap=InferenceGap(k=200, steps=120)
    )
    rows = evaluate(cell, SimpleNamespace(measure=settings), 1, last=True, device=torch.device("cpu"))
    assert all(torch.equal(before[name], tensor) for name, tensor in cell.model.state_dict().items())
    x = cell.data.valid[:30].double()
    exact = float(conjugate.log_evidence(cell.model.double(), Batch(x, torch.arange(30))).mean().detach())
    return {row.metric: row.value for row in rows if row.split == "valid"}, exact


def test_held_out_data_are_measured_by_a_table_of_their_own():
    found, exact = measured("svi[latent=2,refit_steps=150]")
    assert found["log_likelihood"] == pytest.approx(exact, abs=0.03)
    assert abs(found["amortization_gap"]) < 0.03
    assert found["refit_evaluations"] == 150
    hardly, _ = measured("svi[latent=2,refit_steps=1]")
    assert hardly["elbo"] < found["elbo"] - 0.05
    assert hardly["amortization_gap"] > 0.05


def test_an_untrained_net_has_an_amortization_gap_and_no_refit():
    found, exact = measured("denoising[latent=2,hidden=[3]]")
    assert "refit_evaluations" not in found
    assert found["amortization_gap"] > 0.05
    assert found["elbo"] == pytest.approx(exact - found["inference_gap"], abs=0.3)


def noisy(noise, training=True, n=20_000):
    """Mean and deviation of loc over the noise, next to the exact ones of a linear net."""
    encoder = toys.randomize(DenoisingEncoder(toys.REAL, 2, (), noise=noise), 4).train(training)
    x = torch.tensor([[0.4, -1.1, 0.7, 2.0]], dtype=torch.float64).expand(n, -1)
    loc = encoder(Batch(x, torch.arange(n), key=torch.tensor(1)), None).loc.detach()
    weight = encoder.net[0].weight[:2].detach()
    exact = weight @ x[0] + encoder.net[0].bias[:2].detach()
    return loc.mean(0) - exact, loc.std(0), weight.square().sum(1).sqrt()


def test_the_net_sees_noise_of_that_size_in_training_and_none_after():
    off, spread, length = noisy(0.7)
    assert (off.abs() < 4.5 * spread / math.sqrt(20_000)).all()
    assert torch.allclose(spread, 0.7 * length, rtol=0.03)
    assert not torch.allclose(spread, 0.7**2 * length, rtol=0.03)
    off, spread, _ = noisy(0.7, training=False)
    assert torch.allclose(off, torch.zeros_like(off), atol=1e-12)
    assert (spread < 1e-12).all()


def test_the_likelihood_is_that_of_the_data_themselves():
    model, batch = bernoulli(MADE["denoising"](toys.X, 2))
    z = model.posterior(batch).draw(Rng(1), 2).z
    plain = Model(GaussianEncoder(toys.X, 2, (3,)), model.decoder, model.prior)
    assert torch.equal(model.log_joint(batch, z), plain.log_joint(batch, z))
    first, other = (model.posterior(batch._replace(key=torch.tensor(key))).loc for key in (1, 2))
    assert not torch.allclose(first, other)


def test_weights_have_one_length_whatever_is_learned():
    encoder = WeightNormalizedEncoder(toys.X, 2, (3,), norm=1.3)
    toys.randomize(encoder, 4, 2.0)
    layers = [layer for layer in encoder.net if hasattr(layer, "direction")]
    assert len(layers) == 2
    for layer in layers:
        size = layer.direction.shape[1]
        effective = (layer(torch.eye(size, dtype=torch.float64)) - layer.bias).T
        assert torch.allclose(effective.norm(dim=1), torch.full((len(effective),), 1.3, dtype=torch.float64))
        assert not torch.allclose(layer.direction.norm(dim=1), effective.norm(dim=1), rtol=0.1)
    batch = toys.batch()
    before = encoder(batch, None)
    with torch.no_grad():
        layers[0].direction *= 3
    assert torch.allclose(encoder(batch, None).loc, before.loc)
    total = encoder(batch, None).loc.sum()
    slopes = torch.autograd.grad(total, layers[0].direction)[0]
    assert torch.allclose((slopes * layers[0].direction).sum(1), torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_a_small_length_makes_a_smooth_net():
    generator = torch.Generator().manual_seed(6)
    x, y = torch.randn(2, 200, 4, generator=generator, dtype=torch.float64)
    for norm in (0.2, 1.5):
        encoder = toys.randomize(WeightNormalizedEncoder(toys.X, 2, (3,), norm=norm), 4, 2.0)
        outputs = [
            torch.cat([q.loc, q.scale.log()], -1) for q in (encoder(Batch(v, torch.arange(200)), None) for v in (x, y))
        ]
        stretch = ((outputs[0] - outputs[1]).norm(dim=1) / (x - y).norm(dim=1)).max()
        assert stretch <= norm * math.sqrt(3) * norm * math.sqrt(4)
    plain = toys.randomize(GaussianEncoder(toys.X, 2, (3,)), 4, 20.0)
    steep = [plain(Batch(v, torch.arange(200)), None).loc for v in (x, y)]
    assert ((steep[0] - steep[1]).norm(dim=1) / (x - y).norm(dim=1)).max() > 1.5**2 * math.sqrt(12)


@pytest.mark.parametrize(("estimator", "posteriors"), [(reparam(k=2), 1), (stl(k=2), 2)], ids=["reparam", "stl"])
def test_refinement_is_counted_each_time_it_is_done(estimator, posteriors):
    model, batch = bernoulli(SemiAmortizedEncoder(toys.X, 2, (3,), steps=3, samples=4))
    assert decoder_evaluations(model, estimator, batch) == 2 + posteriors * 3 * 4


def test_the_cost_of_refinement_stands_in_the_records(tmp_path):
    grid = {
        "name": "cost",
        "datasets": ["digits"],
        "encoders": ["gaussian[latent=2,hidden=[4]]", "semi-amortized[latent=2,hidden=[4]]"],
        "decoders": ["bernoulli[hidden=[4]]"],
        "priors": ["standard-normal"],
        "estimators": ["reparam"],
        "train": {"steps": 2, "batch": 10},
        "measure": {"data": 10, "samples": 1, "gradients": {"draws": 2, "batches": 1}},
    }
    run(grid, results=tmp_path, workers=0)
    cells = load(tmp_path / "cost", "cells").set_index("encoder.name")
    asked = 1 + 4 * 2  # its own sample, and two at each of four steps
    assert cells["evaluations_per_step"].to_dict() == {"gaussian": 1, "semi-amortized": asked}
    assert cells["evaluations"].to_dict() == {"gaussian": 2 * 10, "semi-amortized": 2 * 10 * asked}
    records = load(tmp_path / "cost").query("metric == 'function_evaluations'")
    assert sorted(records["value"]) == [1, asked]


def hessian_of_kl(encoder, row):
    """Second derivatives of KL(q_t || q_s) in s at s = t: the Fisher information of one row."""
    here = encoder.table.detach()[row]
    loc, log_scale = (encoder.pace * here).chunk(2)

    def kl(other):
        to, log_to = (encoder.pace * other).chunk(2)
        square = (2 * log_scale).exp() + (loc - to).square()
        return (log_to - log_scale + square / (2 * (2 * log_to).exp()) - 0.5).sum()

    return torch.autograd.functional.hessian(kl, here)


@pytest.mark.parametrize("wrong", ["", "scale", "pace"])
def test_fisher_information_is_the_curvature_of_the_divergence(wrong):
    encoder = toys.randomize(SVI(5, 2, pace=3.0), 4, 0.3)
    (found,) = encoder.fisher().values()
    if wrong == "scale":  # 1 / sigma
        found = torch.cat([found[:, :2].sqrt() * 3, found[:, 2:]], -1)
    if wrong == "pace":
        found = found / 3
    same = []
    for row in range(5):
        curvature = hessian_of_kl(encoder, row)
        same += [torch.allclose(curvature, found[row].diag(), rtol=1e-5, atol=1e-6)]
    assert all(same) if not wrong else not any(same)


class ToConjugate(Estimator):
    """Minus KL(q || N(mean, scale^2)), what the bound of a conjugate model is but for a constant."""

    k, bound = 1, ELBO()

    def __init__(self, mean, scale):
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        kl = (self.scale / q.scale).log() + (q.scale**2 + (q.loc - self.mean) ** 2) / (2 * self.scale**2) - 0.5
        return Estimate(-kl.sum(-1).detach(), -kl.sum(-1))


def moved(natural_step, steps=1, pace=3.0, optimizer="natural-gradient"):
    torch.manual_seed(0)
    built = build(
        dataset="bernoulli-bars", encoder=f"svi[latent=2,pace={pace},natural_step={natural_step}]",
        decoder="bernoulli[hidden=[4]]", prior="standard-normal", estimator="reparam",
    )  # fmt: skip
    rule = ToConjugate(torch.tensor([1.5, -0.7]), 1.0)  # as wide as a row is at its start
    size = len(built.data.train)
    settings = Train(steps=steps, batch=size, lr=0.1, optimizer=optimizer)
    list(train(built._replace(estimator=rule), settings, 0, (), Stopwatch(), lambda *_: None))
    batch = Batch(built.data.train, torch.arange(size))
    return built.model.posterior(batch)


@pytest.mark.parametrize("pace", [1.0, 3.0])
def test_one_natural_step_is_at_the_conjugate_posterior(pace):
    q = moved(1.0, pace=pace)
    torch.testing.assert_close(q.loc, torch.tensor([1.5, -0.7]).expand_as(q.loc))
    torch.testing.assert_close(q.scale, torch.ones_like(q.scale))
    half = moved(0.5, pace=pace)
    torch.testing.assert_close(half.loc, torch.tensor([0.75, -0.35]).expand_as(half.loc))
