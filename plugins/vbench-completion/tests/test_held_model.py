"""The model that the prior ``joint`` holds: whether its density is exact, and that training leaves it as it is."""

import pytest
import torch
from filling import Affine, Fixed, Linear, completing, joint, trained_model

from tests import toys
from vbench import Batch, Model, Space
from vbench.estimators.rloo import rloo
from vbench.measure.exact import exact_likelihood
from vbench.measure.truth import UnknownTargetError, bound_truth, evidence_truth
from vbench.oracles.enumeration import states

X = Space((4,), "binary")
BITS = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.float64)
MASK = torch.tensor([[True, False, True, False], [False, False, True, True]])
BATCH = Batch(BITS, torch.arange(2), mask=MASK, key=torch.tensor(3))
BINARY, REAL, MANY = Space((2,), "binary"), Space((2,)), Space((9,), "binary")


class Moody(Fixed):
    """p(h), which in training is another."""

    def forward(self, batch, model):
        q = super().forward(batch, model)
        return type(q)(q.logits + 1) if self.training else q


@pytest.mark.parametrize("proposal", ["encoder", "prior"])
@pytest.mark.parametrize(("h", "estimated"), [(BINARY, False), (REAL, True), (MANY, True)])
def test_only_what_is_summed_is_called_exact(monkeypatch, h, estimated, proposal):
    model = trained_model(X, h)
    filling = completing(monkeypatch, model, X, samples=1, proposal=proposal)
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
    model = completing(monkeypatch, trained_model(X, REAL), X, samples=1)  # its latents are sixteen images
    outer = joint(monkeypatch, model, X, proposal="prior")
    assert outer(None, None).estimated
    assert exact_likelihood(completing(monkeypatch, model, X, proposal="prior"), [BATCH]) == []


def test_training_leaves_the_held_model_as_it_is(monkeypatch):
    model = Model(Affine(X, BINARY), Linear(BINARY, X), Moody(BINARY))
    filling = completing(monkeypatch, toys.randomize(model, 1, 0.8), X)
    prior, images = filling.prior, states(X)[:, None]

    def log_p():
        return prior(None, None).log_prob(images)

    before = log_p()
    for mode in (False, True, True, False):
        assert filling.train(mode) is filling
        assert (prior.training, filling.encoder.training) == (mode, mode)
        assert not any(module.training for module in prior.joint.modules())
        assert torch.equal(log_p(), before)
    assert prior.train() is prior
