"""Steps along natural gradients as training takes them, against full Fisher matrices and exact posteriors."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.func import grad, vmap
from vbench_local.svi import SVI

from tests import toys
from vbench import ELBO, DiagonalNormal, Estimate, Estimator, Model, Trait
from vbench.assemble import Built
from vbench.builtin.datasets.tensors import TensorDataset
from vbench.grid import Train
from vbench.measure.throughput import Stopwatch
from vbench.oracles import conjugate
from vbench.study import make_plan
from vbench.training import train

PACE = 1.5
BATCH = toys.batch(binary=False)
BATCH = BATCH._replace(x=BATCH.x.float().double())  # as training sees them


class Exact(Estimator):
    """The ELBO without sampling error."""

    k, bound = 1, ELBO()

    def forward(self, model, batch, rng):
        value = conjugate.elbo(model, batch)
        return Estimate(value.detach(), value)


class NotInverted(SVI):
    """The gradient is multiplied by F."""

    def fisher(self):
        return {p: 1 / f for p, f in super().fisher().items()}


class ByScale(SVI):
    """1 / sigma where 1 / sigma^2 belongs."""

    def fisher(self):
        (information,) = super().fisher().values()
        loc, log_scale = (information / self.pace**2).chunk(2, -1)
        return {self.table: self.pace**2 * torch.cat([loc.sqrt(), log_scale], -1)}


class Scales(SVI):
    """The same posteriors with scales in the table, not their logarithms."""

    def forward(self, batch, model):
        return DiagonalNormal(*self.table[batch.index].chunk(2, -1))

    def fisher(self):
        scale = self.table.detach().chunk(2, -1)[1]
        return {self.table: torch.cat([scale**-2, 2 * scale**-2], -1)}


class WrongScales(Scales):
    """With the information that logarithms of scales have."""

    def fisher(self):
        scale = self.table.detach().chunk(2, -1)[1]
        return {self.table: torch.cat([scale**-2, torch.full_like(scale, 2)], -1)}


def made(kind=SVI, latent=2):
    encoder = toys.randomize(SVI(5, latent, pace=PACE), 4, 0.3)
    table = encoder.table.detach().clone()
    if issubclass(kind, Scales):
        loc, log_scale = (PACE * table).chunk(2, -1)
        table = torch.cat([loc, log_scale.exp()], -1)
    encoder = kind(5, latent, pace=PACE).double()
    with torch.no_grad():
        encoder.table.copy_(table)
    plain = toys.linear_gaussian(latent)
    return Model(encoder, plain.decoder.requires_grad_(False), plain.prior.requires_grad_(False))


def moved(model, step, steps=1):
    """The posteriors once training has moved them."""
    model.encoder.natural_step = step
    data = TensorDataset(BATCH.x, BATCH.x, BATCH.x, toys.REAL, "0" * 64, "none")
    settings = Train(steps=steps, batch=5, optimizer="natural-gradient")
    list(train(Built(model, Exact(), data, frozenset({Trait.NATURAL})), settings, 0, (), Stopwatch(), lambda *_: None))
    with torch.no_grad():
        return model.posterior(BATCH)


def covariance_of_scores(row):
    """E[score score'] of one row by Gauss-Hermite quadrature, exact for scores that are quadratic: ``[4, 4]``."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    noise = torch.tensor(list(itertools.product(nodes, repeat=2)))
    weight = torch.tensor([math.prod(pair) for pair in itertools.product(weights / weights.sum(), repeat=2)])
    loc, log_scale = (PACE * row).chunk(2)

    def log_q(t, z):
        loc, log_scale = (PACE * t).chunk(2)
        return (-0.5 * ((z - loc) / log_scale.exp()).square() - log_scale).sum()

    scores = vmap(grad(log_q), (None, 0))(row, loc + log_scale.exp() * noise)
    return scores.mT @ (weight[:, None] * scores)


@pytest.mark.parametrize("kind", [SVI, NotInverted, ByScale])
def test_a_step_solves_the_covariance_of_scores(kind):
    model = made(kind)
    table = model.encoder.table.detach().clone()
    (gradient,) = torch.autograd.grad(conjugate.elbo(model, BATCH).sum(), model.encoder.table)
    fisher = torch.stack([covariance_of_scores(row) for row in table])
    expected = table + 0.3 * torch.linalg.solve(fisher, gradient)
    moved(model, 0.3)
    assert torch.allclose(model.encoder.table, expected) == (kind is SVI)


@pytest.mark.parametrize("kind", [SVI, NotInverted, ByScale])
def test_from_the_posterior_scale_one_step_is_at_the_posterior_mean(kind):
    model = made(kind, latent=1)
    mean, covariance = conjugate.posterior(model, BATCH)
    with torch.no_grad():
        model.encoder.table[:, 1:] = covariance.sqrt().log() / PACE
    before = model.posterior(BATCH)
    assert (before.loc - mean).abs().min() > 0.01
    after = moved(model, 1.0)
    assert torch.allclose(after.loc, mean) == (kind is SVI)
    torch.testing.assert_close(after.scale, before.scale)  # nothing pulls at it


def test_steps_end_at_the_best_diagonal_posterior():
    model = made()
    mean, covariance = conjugate.posterior(model, BATCH)
    q = moved(model, 0.5, steps=80)
    torch.testing.assert_close(q.loc, mean)
    torch.testing.assert_close(q.scale, torch.linalg.inv(covariance).diagonal().rsqrt().expand_as(q.scale))


@pytest.mark.parametrize("kind", [Scales, WrongScales])
def test_other_parameters_of_the_same_posteriors_move_them_alike_to_first_order(kind):
    def apart(step):
        one, other = (moved(made(each), step) for each in (SVI, kind))
        return float((one.scale - other.scale).norm() + (one.loc - other.loc).norm())

    ratio = apart(0.002) / apart(0.001)
    assert ratio == pytest.approx(4 if kind is Scales else 2, rel=0.1)


def test_only_encoders_with_a_fisher_information_are_planned(tmp_path):
    grid = {
        "name": "natural",
        "datasets": ["bernoulli-bars"],
        "encoders": ["svi", "gaussian"],
        "decoders": ["bernoulli"],
        "priors": ["standard-normal"],
        "estimators": ["reparam"],
        "train": {"steps": 3, "sweep": {"optimizer": ["adam", "natural-gradient"]}},
    }
    plan = make_plan(grid, results=tmp_path)
    asked = {(planned.cell.encoder.name, planned.cell.train.optimizer): planned for planned in plan.cells}
    assert [key for key, planned in asked.items() if planned.action == "skip"] == [("gaussian", "natural-gradient")]
    assert "needs an encoder that tells the Fisher information" in asked["gaussian", "natural-gradient"].reason
