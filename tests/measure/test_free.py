"""Gradients by what the encoder returns, against exact sums and against the last layer's bias."""

import math

import pytest
import torch

from tests import toys
from tests.measure.toys import FreeBernoulli, expectation, value_of, zeros
from vbench.estimators.reinforce import reinforce
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.measure.free import NoFreePosteriorError, free_model
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import gradient_moments
from vbench.types import Batch


def alone(row):
    batch = toys.batch()
    return Batch(batch.x[row : row + 1], batch.index[row : row + 1], key=torch.tensor(5))


@pytest.mark.parametrize(("make", "estimator"), [(toys.binary, rloo(3)), (toys.gaussian, reparam())])
def test_for_one_datum_it_is_the_gradient_of_the_last_bias(make, estimator):
    """Logits, or loc and log scale, are W h + b: the same draws give the same gradient, one by one."""
    model, batch = make(), alone(2)
    free, same = free_model(model, batch)
    found = gradient_moments(free, estimator, same, draws=40, key=3, method="vmap")
    last = gradient_moments(model, estimator, batch, draws=40, key=3, method="vmap")
    bias = last.mean["encoder.net.0.bias"]
    assert torch.allclose(torch.cat([m.flatten() for m in found.mean.values()]), bias, rtol=1e-9)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.encoder.net[0].bias.requires_grad_()
    only = gradient_moments(model, estimator, batch, draws=40, key=3, method="vmap")
    assert found.variance["all"] == pytest.approx(only.variance["all"], rel=1e-9)
    assert found.std_error["all"] == pytest.approx(only.std_error["all"], rel=1e-9)


def test_an_exact_variance():
    """REINFORCE of E z^2 at one logit: g = f(z) (z - p), f(1) = 1: tr Cov = p (1 - p)^2 - (p (1 - p))^2."""
    logit = 0.7
    p = 1 / (1 + math.exp(-logit))
    model = expectation(FreeBernoulli(logit), lambda z, x: z.square())
    free, batch = free_model(model, zeros(3))
    found = gradient_moments(free, reinforce(), batch, draws=3000, method="vmap")
    exact = (p * (1 - p) ** 2 - (p * (1 - p)) ** 2) / 3  # of the mean over three data
    assert abs(found.variance["all"] - exact) < 4 * found.std_error["all"]
    assert found.std_error["all"] < 0.1 * exact


def test_data_add_up():
    model, batch = toys.binary(), toys.batch()
    rows = gradient_measurements(model, rloo(2), [batch], draws=600, posterior=True, method="vmap")
    whole = value_of(rows, "gradient_variance", "posterior")
    each = [gradient_moments(*free, draws=600) for free in ((f, rloo(2), b) for f, b in map(single, range(5)))]
    total = sum(m.variance["all"] for m in each) / 25
    error = math.hypot(whole.std_error, math.sqrt(sum(m.std_error["all"] ** 2 for m in each)) / 25)
    assert abs(whole.value - total) < 4 * error
    assert error < 0.2 * total
    parts = {m.metric for m in rows if m.part == "posterior"}
    assert {"gradient_snr", "gradient_norm", "gradient_relative_variance"} < parts
    assert not {"gradient_variance_data", "noise_share", "work_normalized_variance"} & parts
    assert value_of(rows, "gradient_variance_per_weight", "posterior").value == pytest.approx(whole.value / 15)


def single(row):
    return free_model(toys.binary(), alone(row))


def test_measuring_leaves_the_model_alone():
    model, batch = toys.gaussian(), toys.batch()
    before = {name: p.clone() for name, p in model.named_parameters()}
    plain = gradient_measurements(model, reparam(), [batch], draws=20, method="vmap")
    rows = gradient_measurements(model, reparam(), [batch], draws=20, posterior=True, method="vmap")
    assert [m for m in rows if m.part != "posterior" and "work" not in m.metric] == [
        m for m in plain if "work" not in m.metric
    ]
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in model.named_parameters())


def test_what_has_no_parameters_of_its_own():
    with pytest.raises(NoFreePosteriorError, match="asks for the posterior of other data"):
        free_model(toys.gaussian(prior="vamp"), toys.batch())
    model = toys.gaussian()
    forward = type(model.encoder).forward

    class Wrapped:
        def __init__(self, q):
            self.draw = q.draw

    class Flow(type(model.encoder)):
        def forward(self, batch, model):
            return Wrapped(forward(self, batch, model))

    model.encoder.__class__ = Flow
    with pytest.raises(NoFreePosteriorError, match="the encoder returns Wrapped"):
        free_model(model, toys.batch())
