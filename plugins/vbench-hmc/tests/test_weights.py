"""Proper weights, without sampling error: sums over the base noise against sums over the latent itself."""

import pytest
import torch
from vbench_hmc import hvi as hvi_module
from vbench_hmc.hvae import HVAE
from vbench_hmc.hvi import HVI
from vbench_hmc.langevin import Langevin
from vbench_hmc.reverse import ReverseModel

from vbench import Draw
from vbench.dynamics import Point
from vbench.testing import models

BATCH = models.batch()
CASES = {
    "hvi": (HVI, {"leapfrog": 3, "step": 0.4, "reverse_hidden": 3}, 2),
    "hvi, long steps": (HVI, {"leapfrog": 1, "step": 1.2, "reverse_hidden": 3}, 2),
    "hvi, two updates": (HVI, {"updates": 2, "leapfrog": 2, "step": 0.4, "reverse_hidden": 3}, 3),
    "hvae, none": (HVAE, {"leapfrog": 3, "step": 0.3, "tempering": "none"}, 2),
    "hvae, fixed": (HVAE, {"leapfrog": 3, "step": 0.3, "tempering": "fixed"}, 2),
    "hvae, free": (HVAE, {"leapfrog": 2, "step": 0.3, "tempering": "free"}, 2),
    "langevin": (Langevin, {"steps": 1, "step": 0.7, "reverse_hidden": 3}, 2),
    "langevin, two steps": (Langevin, {"steps": 2, "step": 0.8, "reverse_hidden": 3}, 3),
    "langevin, annealed": (Langevin, {"steps": 2, "step": 0.5, "reverse_hidden": 3, "annealed": True}, 3),
}


def moments(log_mass, z):
    """Sums of mass times 1, z and z^2, ``[3, B]``."""
    mass = log_mass.exp()
    return torch.stack([(mass * z**power).sum(0) for power in range(3)])


def exact(model):
    """p(x) times the posterior moments, ``[3, B]``."""
    z = torch.linspace(-14, 14, 4001, dtype=torch.float64)[:, None].expand(-1, len(BATCH.x))
    return moments(model.log_joint(BATCH, z[..., None]) + (z[1] - z[0]).log(), z)


def weighed(model, noise, nodes, rule, wrong=lambda draw: draw):
    points, log_mass = rule(noise, 121 if noise == 2 else 51, 12.0 if noise == 2 else 9.0)
    draw = wrong(model.posterior(BATCH).draw(nodes(points), len(points)))
    return moments(model.log_joint(BATCH, draw.z) - draw.log_q + log_mass, draw.z[..., 0])


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_weights_are_proper_for_any_parameters(name, around, nodes, rule):
    factory, parameters, noise = CASES[name]
    for seed in (3, 4) if noise == 2 else (3,):
        model = around(factory, size=0.3, seed=seed, **parameters)
        truth = exact(model)
        assert (weighed(model, noise, nodes, rule) / truth - 1).abs().max() < 1e-3


def off(name, around, nodes, rule, wrong=lambda draw: draw):
    factory, parameters, noise = CASES[name]
    model = around(factory, size=0.3, **parameters)
    return (weighed(model, noise, nodes, rule, wrong) / exact(model) - 1).abs().max()


@torch.no_grad()
def test_without_the_reverse_model_the_weight_is_wrong(around, nodes, rule, monkeypatch):
    class Silent:
        def log_prob(self, v):
            return torch.zeros(v.shape[:2], dtype=v.dtype)

    monkeypatch.setattr(ReverseModel, "forward", lambda self, x, z: Silent())
    assert off("hvi", around, nodes, rule) > 0.1
    assert off("langevin", around, nodes, rule) > 0.1


@torch.no_grad()
def test_without_the_jacobian_the_weight_is_wrong(around, nodes, rule):
    model = around(HVAE, **CASES["hvae, fixed"][1])
    volume = model.encoder.coolings().log().sum()
    assert off("hvae, fixed", around, nodes, rule, lambda draw: Draw(draw.z, draw.log_q + volume)) > 0.1


@torch.no_grad()
def test_steps_that_do_not_keep_volume_make_the_weight_wrong(around, nodes, rule, monkeypatch):
    def euler(at, point, v, step, count, mass=1.0):
        for _ in range(count):
            point, v = at(point.z + step * v / mass), v + step * point.slope
        return point, v

    monkeypatch.setattr(hvi_module, "leapfrog", euler)
    assert off("hvi", around, nodes, rule) > 0.1


@torch.no_grad()
def test_a_slope_of_another_place_does_no_harm_to_weights(around, nodes, rule, monkeypatch):
    """Any kick that depends on z alone keeps volume: the weights stay proper, only worse."""
    real = hvi_module.field

    def tilted(log_density):
        at = real(log_density)
        return lambda z: Point(z, (at(z).slope + 0.3 * z).tanh(), at(z).log_density)

    monkeypatch.setattr(hvi_module, "field", tilted)
    assert off("hvi", around, nodes, rule) < 1e-3
