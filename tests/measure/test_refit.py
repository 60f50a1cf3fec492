"""Tables fitted to other data: to the best posterior there is, and nothing else moves."""

import pytest
import torch
from torch import nn

from tests import toys
from tests.measure.toys import value_of
from vbench.estimators.reparam import reparam
from vbench.estimators.stl import stl
from vbench.families import DiagonalNormal
from vbench.measure.refit import ascend, refitted
from vbench.model import Model
from vbench.oracles import conjugate
from vbench.types import Batch, Encoder, Refittable, Space


class Table(Encoder):
    """Mean and log scale of every datum."""

    def __init__(self, n, refit_steps=200, refit_lr=0.1):
        super().__init__()
        self.z, self.refit_steps, self.refit_lr = Space((2,)), refit_steps, refit_lr
        self.table = nn.Parameter(torch.zeros(n, 4, dtype=torch.float64))

    def forward(self, batch, model):
        loc, log_scale = self.table[batch.index].chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())

    def refit(self, n):
        return Table(n, self.refit_steps, self.refit_lr)


def model_of(**given):
    plain = toys.linear_gaussian()
    return Model(toys.randomize(Table(40, **given), 3), plain.decoder, plain.prior)


def batches():
    whole = toys.batch(binary=False, size=9)
    return [Batch(whole.x[:5], torch.arange(5)), Batch(whole.x[5:], torch.arange(5, 9))]


def falls_short(model, batch):
    """Nats below the best diagonal normal, whose variances are the reciprocal diagonal of the precision."""
    _, covariance = conjugate.posterior(model, batch)
    best = -0.5 * (covariance.logdet() + torch.linalg.inv(covariance).diagonal().log().sum())
    return (conjugate.log_evidence(model, batch) + best - conjugate.elbo(model, batch)).detach()


def test_it_is_fitted_to_the_best_posterior_there_is():
    model = model_of()
    assert isinstance(model.encoder, Refittable)
    assert not isinstance(toys.linear_gaussian().encoder, Refittable)
    made, _ = refitted(model, stl(4), batches(), key=1)
    for batch in batches():
        short = falls_short(made, batch)
        assert bool((short > -1e-9).all() and (short < 0.01).all()), short
        assert bool((falls_short(model, batch) > 0.1).all())
    unfinished, _ = refitted(model_of(refit_steps=5), stl(4), batches(), key=1)
    assert falls_short(unfinished, batches()[0]).max() > 0.02


def test_the_model_does_not_move_and_gets_no_gradient():
    model, estimator = model_of(refit_steps=3), reparam(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made, _ = refitted(model, estimator, batches(), key=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(made.decoder.linear.weight, model.decoder.linear.weight)
    assert not made.decoder.linear.weight.requires_grad
    assert made.encoder.table.any(1).all()


def test_each_batch_is_fitted_by_itself():
    made, _ = refitted(model_of(refit_steps=20), reparam(2), batches(), key=1)
    alone, _ = refitted(model_of(refit_steps=20), reparam(2), batches()[:1], key=1)
    assert torch.equal(made.encoder.table[:5], alone.encoder.table)
    other, _ = refitted(model_of(refit_steps=20), reparam(2), batches()[:1], key=2)
    assert not torch.equal(other.encoder.table, alone.encoder.table)


def test_the_cost_is_told():
    _, rows = refitted(model_of(refit_steps=20), reparam(3), batches(), key=1)
    assert value_of(rows, "refit_evaluations", "encoder").value == 60
    seconds = value_of(rows, "refit_seconds", "encoder")
    assert (seconds.value > 0, seconds.unit, seconds.n) == (True, "s", 9)
    with pytest.raises(ValueError, match="at least one batch"):
        refitted(model_of(), reparam(1), [], key=1)


def test_ascent_moves_nothing_but_what_it_is_given():
    a, b = (torch.tensor([value], requires_grad=True) for value in (1.0, 2.0))
    ascend([a], lambda step: -(a - 3).square() * b, 400, 0.1)
    assert a.item() == pytest.approx(3, abs=1e-3)
    assert b.item() == 2
    assert b.grad is None
