"""Lets the tests run from the source tree where the package is not installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("vbench_hmc") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import pytest
import torch

from vbench import Model, Rng
from vbench.testing import models


class Nodes(Rng):
    """Hands out columns of a table of base noise in place of normal draws, the same for all data."""

    def __init__(self, points):
        super().__init__(0)
        self._left = iter(points.unbind(1))

    def normal(self, *shape, dtype=None):
        return next(self._left)[:, None, None].expand(shape)


def rule(dimensions, side, reach):
    """Equidistant nodes ``[S, dimensions]`` and the log of standard normal mass at each, ``[S, 1]``."""
    line = torch.linspace(-reach, reach, side, dtype=torch.float64)
    points = torch.cartesian_prod(*[line] * dimensions).reshape(-1, dimensions)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    log_mass = normal.log_prob(points).sum(1) + dimensions * (line[1] - line[0]).log()
    return points, log_mass[:, None]


def around(factory, size=0.5, seed=3, **parameters):
    """The judge's model of one Gaussian latent and Bernoulli data around an encoder with random parameters."""
    torch.manual_seed(seed)
    plain = models.line()
    encoder = factory(models.X, latent=1, hidden=[4], **parameters).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return Model(encoder, plain.decoder, plain.prior)


@pytest.fixture(name="around")
def _around():
    return around


@pytest.fixture(name="rule")
def _rule():
    return rule


@pytest.fixture
def nodes():
    return Nodes
