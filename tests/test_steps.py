"""Whole trajectories made of steps: densities, draws and masks, on the chain that estimators are judged on."""

import math

import pytest
import torch

from vbench import IWAE, Batch, Pathwise, Rng, Space, frozen, sequences
from vbench.model import Model
from vbench.oracles import state_space
from vbench.testing import Verdict, chains, checks
from vbench.testing.cases import SEQUENCES
from vbench.testing.models import expanded, randomized
from vbench.testing.verdict import run_check

T, X = 3, (2,)


def plain(feedback=True):
    """The chain with normal proposals."""
    x, z = Space((T, *X), "binary"), Space((T, 1))
    parts = chains.ChainEncoder(x, z), chains.ChainDecoder(x, z), chains.ChainPrior(x, z, feedback)
    return randomized(Model(*parts), 3, 0.5)


def step_by_step(model, batch, z):
    """Log p(x, z) and log q(z | x) of one trajectory of one datum without padding, by the formula."""
    prior, state, log_p, log_q = model.prior, model.prior.start(1, batch), 0.0, 0.0
    for t in range(z.shape[0]):
        q = model.encoder.propose(state[0], batch.x[:, t], batch)
        one = z[None, None, t]
        log_q = log_q + q.log_prob(one)
        log_p = log_p + prior.transition(state, batch).log_prob(one)
        log_p = log_p + model.decoder.emit(one, state[0], batch).log_prob(batch.x[:, t])
        state = prior.advance(state, one, batch.x[None, :, t], batch)
    return float(log_p.detach()), float(log_q.detach())


def test_whole_densities_are_sums_over_the_steps_before_the_end():
    model, batch = plain(), chains.chain_batch(3)
    draw = model.posterior(batch).draw(Rng(1), 4)
    joint = model.log_joint(batch, draw.z)
    torch.testing.assert_close(draw.log_q, model.posterior(batch).log_prob(draw.z))
    for k in range(4):
        for b, length in enumerate((3, 3, 2)):
            one = Batch(batch.x[b : b + 1, :length], torch.tensor([b]))
            log_p, log_q = step_by_step(model, one, draw.z[k, b, :length])
            assert float(joint[k, b].detach()) == pytest.approx(log_p, rel=1e-12)
            assert float(draw.log_q[k, b].detach()) == pytest.approx(log_q, rel=1e-12)
    assert not draw.z[:, 2, 2].any()


def test_what_stands_in_the_padding_changes_nothing():
    model, batch = plain(), chains.chain_batch(3)
    other = batch._replace(x=torch.where(batch.mask, batch.x, math.nan))
    longer = batch._replace(
        x=torch.cat([batch.x, torch.full((3, 2, *X), 7.0).double()], 1),
        mask=torch.cat([batch.mask, torch.zeros(3, 2, *X, dtype=torch.bool)], 1),
    )
    for changed in (other, longer):
        a, b = model.posterior(batch).draw(Rng(1), 4), model.posterior(changed).draw(Rng(1), 4)
        torch.testing.assert_close(b.z[:, :, :T], a.z, rtol=0, atol=0)
        assert not b.z[:, :, T:].any()
        torch.testing.assert_close(b.log_q, a.log_q, rtol=0, atol=0)
        joints = model.log_joint(batch, a.z), model.log_joint(changed, b.z)
        torch.testing.assert_close(*joints, rtol=1e-14, atol=0)
        slopes = [torch.autograd.grad(joint.sum(), [*model.decoder.parameters()]) for joint in joints]
        assert all(torch.allclose(*pair, rtol=1e-12) and pair[0].isfinite().all() for pair in zip(*slopes, strict=True))


def test_a_trajectory_of_another_length_has_no_density():
    model, batch = plain(), chains.chain_batch(3)
    z = model.posterior(batch).draw(Rng(1), 1).z
    swapped = model.posterior(batch).log_prob(z[:, [0, 2, 1]])  # lengths 3, 2 and 3 where 3, 3 and 2 are
    assert swapped[0, 0].isfinite()
    assert (swapped[0, 1:] == -math.inf).all()


def test_ancestral_draws_take_in_what_they_emit():
    model = plain()
    draw = model.prior_density(None).draw(Rng(2), 5)
    assert draw.z.shape == (5, 1, T, 1)
    assert model.likelihood(None, draw.z).sample(Rng(3)).shape == (5, 1, T, *X)
    assert model.likelihood(None, draw.z).mean.shape == (5, 1, T, *X)
    with pytest.raises(ValueError, match="for given data only"):
        model.prior_density(None).log_prob(draw.z)
    alone = plain(feedback=False)
    draw = alone.prior_density(None).draw(Rng(2), 5)
    torch.testing.assert_close(alone.prior_density(None).log_prob(draw.z), draw.log_q)


def test_mean_follows_the_data_where_they_are_given():
    model, batch = plain(), chains.chain_batch(2)
    z = model.posterior(batch).draw(Rng(1), 4).z
    mean = model.likelihood(batch, z).mean
    log_p = torch.where(batch.x == 1, mean, 1 - mean).log().flatten(2).sum(2)
    torch.testing.assert_close(model.log_likelihood(batch, z), log_p)


def test_a_frozen_model_unrolls_and_gives_the_same():
    model, batch = plain(), chains.chain_batch(3)
    z = model.posterior(batch).draw(Rng(1), 2).z
    assert torch.equal(frozen(model).log_joint(batch, z), model.log_joint(batch, z))
    assert not frozen(model).log_joint(batch, z.detach()).requires_grad


def test_sequences_end_with_their_last_observed_entry():
    mask = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]]).bool()[..., None]
    data = sequences(torch.ones(2, 5, 1), mask)
    assert data.alive.tolist() == [[True, True, True, False, False], [True, True, False, False, False]]
    assert data.steps == 3
    assert sequences(torch.ones(2, 5, 1), None).steps == 5


@pytest.mark.parametrize("name", ["reparam", "iwae"])
def test_estimators_that_know_no_steps_are_exact_on_whole_trajectories(name):
    (case,) = SEQUENCES
    found = [
        run_check(c) for c in checks("estimator", name, cases=(case,), k=2) if c.name.startswith("exact[chain,k=2")
    ]
    assert [result.name.partition(":")[2] for result in found] == ["value", "encoder", "decoder", "prior"]
    assert {result.verdict for result in found} == {Verdict.PASS}, found


def test_the_chain_sums_to_the_k_sample_bound():
    # a plain average over draws agrees with the enumeration of particles that never meet
    (case,) = SEQUENCES
    truth = case.truth(IWAE(), 2)
    model, batch = expanded(case.make(), case.batch, 20_000)
    with torch.no_grad():
        values = Pathwise(IWAE(), 2)(model, batch, Rng(5)).value.reshape(-1, 3)
    error = (values.mean(0) - truth.value) / (values.std(0) / len(values) ** 0.5)
    assert error.abs().max() < 4.5
    histories = chains.histories(case.make(), case.batch)
    torch.testing.assert_close(
        state_space.mean_estimate(histories, state_space.Particles(2, "always")), truth.log_evidence
    )
