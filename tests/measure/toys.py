"""Models small enough that what is measured of them is known exactly."""

import math

import torch
from torch import nn

from vbench.families import Bernoulli, DiagonalNormal
from vbench.model import Model, frozen
from vbench.rng import Rng
from vbench.types import Batch, Decoder, Encoder, Estimate, Estimator, Prior, Space


def batch_of(x):
    return Batch(x, torch.arange(len(x)))


def value_of(measurements, metric, part="all"):
    (found,) = [m for m in measurements if (m.metric, m.part) == (metric, part)]
    return found


class FreeNormal(Encoder):
    """q = N(loc, scale^2), the same for every datum; both are parameters as they stand."""

    def __init__(self, loc, scale):
        super().__init__()
        self.z = Space((1,))
        self.loc = nn.Parameter(torch.tensor([loc], dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor([scale], dtype=torch.float64))

    def forward(self, batch, model):
        return DiagonalNormal(self.loc.expand(len(batch.x), 1), self.scale.expand(len(batch.x), 1))


class FreeBernoulli(Encoder):
    """q(z = 1) = sigmoid(logit), the same for every datum."""

    def __init__(self, logit):
        super().__init__()
        self.z = Space((1,), "binary")
        self.logit = nn.Parameter(torch.tensor([logit], dtype=torch.float64))

    def forward(self, batch, model):
        return Bernoulli(self.logit.expand(len(batch.x), 1))


class Values:
    """A likelihood whose logarithm is any function of z and x."""

    def __init__(self, values):
        self.values = values

    def log_prob(self, x, mask=None):
        return self.values


class Function(Decoder):
    """log p(x | z) = f(z, x), [K, B, 1] and [B, 1] -> [K, B]."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, z, batch, model):
        return Values(self.f(z[..., 0], batch.x[:, 0]))


class OwnPosterior(Prior):
    """p(z) = the frozen q(z | x): log weights are f alone, so estimators become those of E_q f."""

    def forward(self, batch, model):
        return frozen(model).posterior(batch)


def expectation(encoder, f):
    """A model whose ELBO's gradient is that of E_q f."""
    return Model(encoder, Function(f), OwnPosterior())


def zeros(size=1):
    return batch_of(torch.zeros(size, 1, dtype=torch.float64))


class PerfectlyPlain(Estimator):
    """E_q f by the path through z, the building block of misbehaving estimators."""

    def forward(self, model, batch, rng: Rng):
        z = model.posterior(batch).draw(rng, self.k).z
        value = model.log_likelihood(batch, z).mean(0)
        return Estimate(value.detach(), value)


class UnitNormal(Prior):
    """p(z) = N(0, 1) in double precision."""

    def forward(self, batch, model):
        zero = torch.zeros(1, 1, dtype=torch.float64)
        return DiagonalNormal(zero, zero + 1)


def conjugate():
    """facts.md 4.4: log p -1.6813114823, ELBO -2.2704241762; the batch is x = 1.3, repeated."""

    def noise(z, x):
        return -0.5 * (x - z) ** 2 / 0.7 - 0.5 * math.log(2 * math.pi * 0.7)

    return Model(FreeNormal(0.2, 0.9**0.5), Function(noise), UnitNormal())
