"""Exact expectations of particle methods against sums over sequences, importance weighting and plain Monte Carlo."""

import itertools
import math

import pytest
import torch
from torch import nn

from tests.oracles.chains import METHODS, Toy, assert_same, resampled, toy
from vbench.bounds import ELBO, IWAE
from vbench.oracles import state_space
from vbench.oracles.common import expected_bound, gradient
from vbench.oracles.state_space import Histories, Markov, Particles

every = pytest.mark.parametrize("name", METHODS)


def test_the_forward_algorithm_sums_over_all_sequences():
    model = Toy()
    torch.testing.assert_close(model.evidence(), model.sequences()[0].logsumexp(0))
    expected = gradient(model.sequences()[0].logsumexp(0), model)
    assert_same(gradient(model.evidence(), model), expected)


def test_what_is_not_observed_is_summed_out():
    model, mask = Toy(), torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    totals = []
    for symbols in itertools.product(range(4), repeat=2):
        x = model.x.clone()
        x[0, 2], x[1, 1] = symbols
        other = Toy()
        other.x = x
        totals.append(other.evidence())
    expected = torch.stack(totals).logsumexp(0) - math.log(4)
    model.x = torch.where(mask, model.x, -9)
    torch.testing.assert_close(state_space.log_evidence(model.prior(), model.likelihood(mask)), expected)


def test_transitions_may_differ_by_step():
    model = Toy()
    steps = torch.stack([model.transition.log_softmax(-1), model.transition.mT.log_softmax(-1)])
    prior, likelihood = Markov(model.initial.log_softmax(-1), steps), model.likelihood().exp()
    both = steps.exp()
    for b in range(2):
        first = prior.log_initial.exp() * likelihood[b, 0]
        total = ((first @ both[0] * likelihood[b, 1]) @ both[1] * likelihood[b, 2]).sum()
        torch.testing.assert_close(state_space.log_evidence(prior, model.likelihood())[b], total.log())


@every
def test_the_estimate_is_unbiased(name):
    model = toy(name)
    for proposal in (model.proposal(), model.prior()):
        histories = Histories.of_chain(model.prior(), proposal, model.likelihood())
        estimate = state_space.mean_estimate(histories, METHODS[name])
        torch.testing.assert_close(estimate, model.evidence(), rtol=1e-12, atol=1e-12)
        assert (state_space.bound_value(histories, METHODS[name]) < model.evidence() - 1e-3).all()


@every
def test_its_gradient_is_that_of_the_evidence(name):
    model = toy(name)
    found = gradient(state_space.mean_estimate(model.histories(), METHODS[name]), model)
    assert_same(found, gradient(model.evidence(), model), rtol=1e-9, atol=1e-12)


@every
def test_the_particles_are_properly_weighted(name):
    # E[p-hat sum_i W_i 1(z_i = z)] = p(x, z) for every sequence z
    model = toy(name)
    with torch.no_grad():
        found = state_space.outcomes(model.histories(), METHODS[name])
        joint = model.sequences()[0].exp()
        torch.testing.assert_close(found.mass.sum(0), torch.ones(2, dtype=torch.float64))
        torch.testing.assert_close(found.log_weight.logsumexp(2), torch.zeros_like(found.mass), atol=1e-12, rtol=0)
        weights = (found.mass * found.log_estimate.exp())[..., None] * found.log_weight.exp()
        sums = torch.zeros_like(joint).index_add_(0, found.history.flatten(), weights.movedim(2, 1).flatten(0, 1))
    torch.testing.assert_close(sums, joint, rtol=1e-11, atol=0)


def test_each_datum_is_on_its_own():
    # the adaptive schedule resamples one datum in an outcome where it does not resample the other
    model = Toy()
    for name in ("adaptive", "systematic"):
        both = state_space.bound_value(model.histories(), METHODS[name])
        for b in range(2):
            proposal = Markov(*(logits[b : b + 1].log_softmax(-1) for logits in (model.q_initial, model.q_transition)))
            one = Histories.of_chain(model.prior(), proposal, model.likelihood()[b : b + 1])
            torch.testing.assert_close(state_space.bound_value(one, METHODS[name]), both[b : b + 1])


def test_schedules_and_schemes_are_different_bounds():
    model = Toy(states=2)
    found = {
        (count, schedule, scheme): state_space.bound_value(model.histories(), Particles(count, schedule, scheme, 0.8))
        for count in (2, 3)
        for schedule in ("always", "adaptive", "never")
        for scheme in ("multinomial", "stratified", "systematic")
    }
    for (one, value), (two, other) in itertools.combinations(found.items(), 2):
        # two particles have one chance to part, so that the last two schemes are one
        same = one[:2] == two[:2] and (one[1] == "never" or (one[0] == 2 and "multinomial" not in (one[2], two[2])))
        assert torch.allclose(value, other, rtol=0, atol=1e-12) == same, (one, two)
        assert same or (value - other).abs().max() > 1e-5
    # the effective size of two particles is never below one
    rare = state_space.bound_value(model.histories(), Particles(2, "adaptive", threshold=0.5))
    torch.testing.assert_close(rare, found[2, "never", "multinomial"])


@pytest.mark.parametrize("count", [2, 3])
def test_without_resampling_it_is_importance_weighting_of_sequences(count):
    model = Toy(states=2)
    log_joint, log_q = model.sequences()
    expected = expected_bound(IWAE(), count, log_joint - log_q, log_q)
    never = Particles(count, "never")
    torch.testing.assert_close(state_space.bound_value(model.histories(), never), expected)
    assert_same(state_space.exact_gradient(model.histories(), model, never), gradient(expected, model))


@pytest.mark.parametrize("schedule", ["never", "always", "adaptive"])
def test_one_particle_is_the_elbo_of_sequences(schedule):
    model, one = Toy(), Particles(1, schedule)
    log_joint, log_q = model.sequences()
    expected = expected_bound(ELBO(), 1, log_joint - log_q, log_q)
    torch.testing.assert_close(state_space.bound_value(model.histories(), one), expected)
    wanted = gradient(expected, model)
    for ancestors in ("exact", "dropped", "weights"):
        assert_same(state_space.exact_gradient(model.histories(), model, one, ancestors), wanted)


def test_resampling_always_makes_a_markov_chain_of_particle_sets():
    """Weights start anew at every step, and given the last ones the particles are independent: no ancestor named."""
    model = Toy()
    p, q, likelihood = model.prior(), model.proposal(), model.likelihood()
    expected = []
    for b in range(2):
        sets = {((0, 0), (0.5, 0.5)): 1.0}  # states and weights of two particles, with their probability
        value = 0.0
        for t in range(3):
            log_p = p.log_transition if t else p.log_initial.expand(3, 3)
            log_q = q.log_transition[b, t - 1] if t else q.log_initial[b].expand(3, 3)
            alpha = (log_p + likelihood[b, t] - log_q).exp().tolist()
            new = {}
            for (states, weights), mass in sets.items():
                # one particle: which state it comes from, which it goes to
                moves = [
                    (weights[i] * log_q[states[i], s].exp().item(), alpha[states[i]][s], s)
                    for i in range(2)
                    for s in range(3)
                ]
                for one, two in itertools.product(moves, repeat=2):
                    chance, mean = mass * one[0] * two[0], (one[1] + two[1]) / 2
                    value += chance * math.log(mean)
                    key = (one[2], two[2]), (one[1] / (2 * mean), two[1] / (2 * mean))
                    new[key] = new.get(key, 0.0) + chance
            sets = new
        expected.append(value)
    found = state_space.bound_value(model.histories(), METHODS["always"])
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_true_posterior_as_proposal_makes_the_bound_tight():
    model = Toy()
    prior, likelihood = model.prior(), model.likelihood()
    ahead, moves = torch.zeros(2, 3, dtype=torch.float64), []
    for t in (2, 1):  # log p(x_t..T | z_t-1)
        step = prior.log_transition + (likelihood[:, t] + ahead)[:, None]
        ahead = step.logsumexp(2)
        moves.insert(0, step - ahead[..., None])
    start = (prior.log_initial + likelihood[:, 0] + ahead).log_softmax(-1)
    histories = Histories.of_chain(prior, Markov(start, torch.stack(moves, 1)), likelihood)
    torch.testing.assert_close(state_space.bound_value(histories, METHODS["never"]), model.evidence())
    resampled = state_space.bound_value(histories, METHODS["always"])
    assert (resampled < model.evidence()).all()  # it ignores what is ahead


@every
def test_the_bound_agrees_with_a_plain_particle_filter(name):
    model, particles, runs = toy(name), METHODS[name], 100_000
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        exact = state_space.bound_value(model.histories(), particles)
        p, q, likelihood = model.prior(), model.proposal(), model.likelihood()
        for b in range(2):
            z = torch.zeros(runs, particles.count, dtype=torch.long)
            log_w = torch.full(z.shape, -math.log(particles.count), dtype=torch.float64)
            estimate = torch.zeros(runs, dtype=torch.float64)
            for t in range(likelihood.shape[1]):
                if t:
                    ancestors, log_w = resampled(log_w, particles, generator)
                    z = z.gather(1, ancestors)
                log_p = p.log_transition if t else p.log_initial.expand_as(p.log_transition)
                log_q = q.log_transition[b, t - 1] if t else q.log_initial[b].expand_as(p.log_transition)
                new = torch.multinomial(log_q[z].exp().flatten(0, 1), 1, generator=generator).view_as(z)
                joint = log_w + log_p[z, new] + likelihood[b, t, new] - log_q[z, new]
                estimate, log_w, z = estimate + joint.logsumexp(1), joint.log_softmax(1), new
            error = (estimate.mean() - exact[b]) / (estimate.std() / runs**0.5)
            assert abs(float(error)) < 4


def test_what_is_wrong_is_refused():
    model = Toy()
    with pytest.raises(ValueError, match="11664 outcomes of the particle method for each of 2 data"):
        state_space.bound_value(model.histories(), METHODS["always"], limit=20_000)
    with pytest.raises(ValueError, match="one particle at least"):
        Particles(0, "always")
    with pytest.raises(ValueError, match="'sometimes' is none of always, never, adaptive"):
        Particles(2, "sometimes")
    with pytest.raises(ValueError, match="'residual' is none of"):
        Particles(2, "always", "residual")
    with pytest.raises(ValueError, match="'droped' is none of exact, dropped, weights"):
        state_space.bound_value(model.histories(), METHODS["always"], "droped")
    with pytest.raises(ValueError, match="do not sum to one"):
        state_space.log_evidence(Markov(model.initial, model.transition), model.likelihood())
    never = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    with pytest.raises(ValueError, match="not finite: give what never happens a small one"):
        state_space.log_evidence(Markov(never, model.transition.log_softmax(-1)), model.likelihood())
    good = model.histories()
    with pytest.raises(ValueError, match=r"the tables of step 1 must be \[B, 3, S\]"):
        Histories(good.log_mass, [good.log_weight[0], *good.log_weight[:0:-1]])
    with pytest.raises(ValueError, match="one table for each step"):
        Histories(good.log_mass, good.log_weight[:2])
    with pytest.raises(ValueError, match="a log weight of step 2 is not finite"):
        Histories(good.log_mass, [*good.log_weight[:2], good.log_weight[2] - math.inf])


def test_single_precision_tables_get_a_double_precision_answer():
    double, single = Toy(), Toy().float()
    value = state_space.bound_value(single.histories(), METHODS["always"])
    assert value.dtype == single.evidence().dtype == torch.float64
    torch.testing.assert_close(
        value, state_space.bound_value(double.histories(), METHODS["always"]), rtol=1e-5, atol=1e-6
    )
    found = state_space.exact_gradient(single.histories(), single, METHODS["always"])
    assert found["transition"].dtype == torch.float32


def test_fixed_parameters_are_left_out_and_idle_ones_are_zero():
    model = Toy()
    model.emission.requires_grad_(False)
    model.idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
    found = state_space.exact_gradient(model.histories(), model, METHODS["always"])
    assert "emission" not in found
    assert torch.equal(found["idle"], torch.zeros(2, dtype=torch.float64))
