"""The inference gap and its two parts against closed forms."""

import pytest
import torch

from tests import toys
from tests.measure.toys import value_of
from vbench.measure.gaps import inference_gap, inference_gaps
from vbench.oracles import conjugate

SETTINGS = {"k": 2000, "steps": 250, "lr": 0.1, "samples": 4000, "key": 3}


def model_of(orthogonal):
    """A linear-Gaussian model; with orthogonal columns the true posterior is a diagonal normal."""
    model = toys.linear_gaussian()
    with torch.no_grad():
        model.decoder.log_scale.fill_(-0.2)
        columns = [[0.9, -0.4, 0.7, 0.2], [0.4, 0.9, 0.2, -0.7] if orthogonal else [0.8, -0.1, 0.9, 0.1]]
        model.decoder.linear.weight.copy_(torch.tensor(columns).T)
        model.encoder.net[-1].bias += 0.5
    return model, toys.batch(binary=False)


def exact(model, batch):
    _, covariance = conjugate.posterior(model, batch)
    precision = torch.linalg.inv(covariance)
    approximation = 0.5 * (covariance.logdet() + precision.diagonal().log().sum())
    evidence = conjugate.log_evidence(model, batch)
    return evidence.detach(), (evidence - approximation).detach(), conjugate.elbo(model, batch).detach()


@pytest.mark.parametrize("orthogonal", [True, False])
def test_both_gaps_are_those_of_the_closed_form(orthogonal):
    model, batch = model_of(orthogonal)
    found, truth = inference_gaps(model, [batch], **SETTINGS), exact(model, batch)
    gap = float((truth[0] - truth[1])[0])
    assert (gap < 1e-9) if orthogonal else (gap > 0.15)
    assert torch.allclose(found.best, truth[1], atol=0.06)
    assert torch.allclose(found.log_evidence, truth[0], atol=0.06)
    assert torch.allclose(found.best - found.own, truth[1] - truth[2], atol=0.2, rtol=0.05)
    assert (truth[1] - truth[2] > 0.5).all()
    if orthogonal:  # every weight is the evidence itself
        assert torch.allclose(found.log_evidence, found.best, atol=1e-3)
        assert torch.allclose(found.log_evidence, truth[0], atol=1e-3)


def test_a_posterior_that_is_no_best_one_is_told_by_the_same_test():
    model, batch = model_of(True)
    found, truth = inference_gaps(model, [batch], **(SETTINGS | {"steps": 2})), exact(model, batch)
    assert not torch.allclose(found.best, truth[1], atol=0.06)
    swapped = exact(model, batch)
    assert not torch.allclose(found.own, swapped[1], atol=0.06)


def test_the_parts_add_up_and_the_net_is_never_better_than_the_best():
    model, batch = toys.gaussian(), toys.batch()
    found = inference_gaps(model, [batch], k=500, steps=200, lr=0.05, samples=500, key=1)
    assert (found.best - found.own > -0.01).all()
    assert (found.log_evidence - found.best > -0.05).all()
    rows = inference_gap(model, [batch], k=500, steps=200, lr=0.05, samples=500, key=1)
    whole, *parts = (
        value_of(rows, f"{name}_gap", "encoder") for name in ("inference", "approximation", "amortization")
    )
    assert whole.value == pytest.approx(sum(part.value for part in parts), rel=1e-9)
    assert (whole.n, whole.unit) == (5, "nats")


def test_the_model_does_not_move():
    model, batch = model_of(True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inference_gaps(model, [batch], k=5, steps=3, lr=0.1, samples=5, key=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError, match="at least one batch"):
        inference_gaps(model, [], k=5, steps=3, lr=0.1, samples=5, key=1)
