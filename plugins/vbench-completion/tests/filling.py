"""Small models of whole data, and what fills in data by them."""

from types import SimpleNamespace

import torch
from torch import nn
from vbench_completion import joint as joint_module
from vbench_completion.fill import FillEncoder
from vbench_completion.joint import JointPrior
from vbench_completion.observed import ObservedDecoder

from tests import toys
from vbench import Bernoulli, Decoder, DiagonalNormal, Encoder, Model, Prior, Space, Trait


class Linear(Decoder):
    """Independent pixels, affine in h."""

    def __init__(self, h, x):
        super().__init__()
        self.net, self.x = nn.Linear(h.size, x.size), x
        self.log_scale = nn.Parameter(torch.zeros(x.size))

    def forward(self, z, batch, model):
        raw = self.net(z.flatten(2)).unflatten(2, self.x.shape)
        return (
            Bernoulli(raw) if self.x.support == "binary" else DiagonalNormal(raw, self.log_scale.exp().expand_as(raw))
        )


class Affine(Encoder):
    """A posterior affine in the datum."""

    def __init__(self, x, h):
        super().__init__()
        self.z = h
        self.net = nn.Linear(x.size, h.size * (1 if h.support == "binary" else 2))

    def forward(self, batch, model):
        raw = self.net(batch.x.flatten(1))
        if self.z.support == "binary":
            return Bernoulli(raw)
        loc, log_scale = raw.chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())


class Fixed(Prior):
    """Of h."""

    def __init__(self, h):
        super().__init__()
        self.raw, self.support = nn.Parameter(torch.zeros(1, *h.shape)), h.support

    def forward(self, batch, model):
        return Bernoulli(self.raw) if self.support == "binary" else DiagonalNormal(self.raw, torch.ones_like(self.raw))


def trained_model(x, h, seed=1):
    return toys.randomize(Model(Affine(x, h), Linear(h, x), Fixed(h)).double(), seed, 0.8)


def joint(monkeypatch, model, x, **given):
    """The prior that would be loaded from a study, its model in evaluation mode as it is from there."""
    offers = frozenset({Trait.AMORTIZED, Trait.NORMALIZED, Trait.PROPER_WEIGHT})
    made = SimpleNamespace(model=model.eval(), data=SimpleNamespace(x=x), offers=offers)
    monkeypatch.setattr(joint_module, "trained", lambda study, cell: made)
    z = Space(x.shape, "binary" if x.support == "binary" else "real")
    return JointPrior(z, "results/one", "any", **given).double()


def completing(monkeypatch, model, x, encoder=None, **given):
    torch.manual_seed(2)
    encoder = encoder or toys.randomize(FillEncoder(x, hidden=(5,)).double(), 4, 0.6)
    return Model(encoder, ObservedDecoder(x, encoder.z), joint(monkeypatch, model, x, **given))
