"""The model that the prior ``joint`` holds: whether its density is exact, and that training leaves it as it is."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from vbench_completion import joint as joint_module
from vbench_completion.fill import FillEncoder
from vbench_completion.joint import JointPrior
from vbench_completion.observed import ObservedDecoder

from tests import toys
from vbench import Batch, Bernoulli, Decoder, DiagonalNormal, Encoder, Model, Prior, Space, Trait
from vbench.estimators.rloo import rloo
from vbench.measure.exact import exact_likelihood
from vbench.measure.truth import UnknownTargetError, bound_truth, evidence_truth
from vbench.oracles.enumeration import states

X = Space((4,), "binary")
BITS = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.float64)
MASK = torch.tensor([[True, False, True, False], [False, False, True, True]])
BATCH = Batch(BITS, torch.arange(2), mask=MASK, key=torch.tensor(3))


class Affine(Encoder):
    """q(h | x), affine in the datum."""

    def __init__(self, h):
        super().__init__()
        self.z, self.net = h, nn.Linear(X.size, h.size)

    def forward(self, batch, model):
        raw = self.net(batch.x)
        return Bernoulli(raw) if self.z.support == "binary" else DiagonalNormal(raw, torch.ones_like(raw))


class Linear(Decoder):
    """p(x | h), affine in h."""

    def __init__(self, h):
        super().__init__()
        self.net = nn.Linear(h.size, X.size)

    def forward(self, z, batch, model):
        return Bernoulli(self.net(z))


class Fixed(Prior):
    """p(h), which in training is another."""

    def __init__(self, h):
        super().__init__()
        self.raw, self.support = nn.Parameter(torch.zeros(1, *h.shape)), h.support

    def forward(self, batch, model):
        raw = self.raw + 1 if self.training else self.raw
        return Bernoulli(raw) if self.support == "binary" else DiagonalNormal(raw, torch.ones_like(raw))


def holding(monkeypatch, model, x=X, **given):
    """The prior of a model that would be loaded from a study, in evaluation mode as it is from there."""
    offers = frozenset({Trait.AMORTIZED, Trait.PROPER_WEIGHT})
    made = SimpleNamespace(model=model.eval(), data=SimpleNamespace(x=x), offers=offers)
    monkeypatch.setattr(joint_module, "trained", lambda study, cell: made)
    return JointPrior(x, "results/one", "any", **given).double()


def vae(h):
    return toys.randomize(Model(Affine(h), Linear(h), Fixed(h)), 1, 0.8)


def completing(prior):
    encoder = toys.randomize(FillEncoder(X, hidden=(5,)), 4, 0.6)
    return Model(encoder, ObservedDecoder(X, encoder.z), prior)


BINARY, REAL, MANY = Space((2,), "binary"), Space((2,)), Space((9,), "binary")


@pytest.mark.parametrize("proposal", ["encoder", "prior"])
@pytest.mark.parametrize(("h", "estimated"), [(BINARY, False), (REAL, True), (MANY, True)])
def test_only_what_is_summed_is_called_exact(monkeypatch, h, estimated, proposal):
    model = vae(h)
    filling = completing(holding(monkeypatch, model, samples=1, proposal=proposal))
    if estimated:
        assert exact_likelihood(filling, [BATCH]) == []
        assert filling.prior_density(BATCH).estimated
        with pytest.raises(UnknownTargetError, match=r"^no exact log p\(x\): the prior's density is an estimate$"):
            evidence_truth(filling, BATCH)
        with pytest.raises(UnknownTargetError, match=r"^no exact gradient: the prior's density is an estimate$"):
            bound_truth(filling, BATCH, rloo(2))
        return
    images, every = states(X), states(h)[:, None].expand(-1, 16, -1)
    log_p = model.log_joint(Batch(images, torch.arange(16)), every).logsumexp(0)
    truth = [log_p[((images == x) | ~m).all(1)].logsumexp(0) for x, m in zip(BITS, MASK, strict=True)]
    (found,) = exact_likelihood(filling, [BATCH])
    assert not filling.prior_density(BATCH).estimated
    assert found.value == pytest.approx(float(torch.stack(truth).mean().detach()), abs=1e-10)
    assert evidence_truth(filling, BATCH).exact
    assert bound_truth(filling, BATCH, rloo(2)).exact


def test_an_exact_sum_over_estimates_is_an_estimate(monkeypatch):
    inner = holding(monkeypatch, vae(REAL), samples=1)
    encoder = toys.randomize(FillEncoder(X, hidden=(5,)), 4, 0.6)
    model = Model(encoder, ObservedDecoder(X, encoder.z), inner)  # its latents are sixteen images
    outer = holding(monkeypatch, model, proposal="prior")
    assert exact_likelihood(completing(outer), [BATCH]) == []
    assert outer(None, None).estimated


def test_training_leaves_the_held_model_as_it_is(monkeypatch):
    prior = holding(monkeypatch, vae(BINARY))
    filling = completing(prior)
    images = states(X)[:, None]

    def log_p():
        return prior(None, None).log_prob(images)

    before = log_p()
    for mode in (False, True, True, False):
        assert filling.train(mode) is filling
        assert (prior.training, filling.encoder.training) == (mode, mode)
        assert not any(module.training for module in prior.joint.modules())
        assert torch.equal(log_p(), before)
    assert prior.train() is prior
