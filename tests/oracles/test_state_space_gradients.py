"""Gradients of particle bounds: exact, and without the ancestors' scores, against slopes, sums by hand and a filter."""

import itertools
import math

import pytest
import torch

from tests.oracles.chains import METHODS, Gaussian, Toy, assert_same, nodes, toy
from vbench.oracles import kalman, state_space
from vbench.oracles.common import gradient
from vbench.oracles.state_space import Particles


def distance(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


RESAMPLING = [name for name in METHODS if name != "never"]
MULTINOMIAL = ["always", "adaptive", "three", "three adaptive"]
every = pytest.mark.parametrize("name", METHODS)


@every
def test_the_gradient_is_the_slope_of_the_value(name):
    model = toy(name)
    found, step = state_space.exact_gradient(model.histories(), model, METHODS[name]), 1e-5
    for part, parameter in model.named_parameters():
        for place in {0, parameter.numel() - 1}:
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[place] += sign * step
                    ends.append(float(state_space.bound_value(model.histories(), METHODS[name]).mean()))
                    parameter.view(-1)[place] -= sign * step
            slope = (ends[0] - ends[1]) / (2 * step)
            assert slope == pytest.approx(float(found[part].view(-1)[place]), rel=1e-5, abs=1e-8)


def test_dropping_the_ancestors_changes_nothing_without_resampling():
    model = Toy()
    histories = model.histories()
    exact, dropped = (
        state_space.exact_gradient(histories, model, METHODS["never"], ancestors) for ancestors in ("exact", "dropped")
    )
    assert_same(exact, dropped)


@pytest.mark.parametrize("name", RESAMPLING)
def test_dropping_the_ancestors_is_a_bias_with_resampling(name):
    model = toy(name)
    histories, particles = model.histories(), METHODS[name]
    for ancestors in ("dropped", "weights"):
        value = state_space.bound_value(histories, particles, ancestors)
        torch.testing.assert_close(value, state_space.bound_value(histories, particles))
    exact = state_space.exact_gradient(histories, model, particles)
    dropped = state_space.exact_gradient(histories, model, particles, "dropped")
    assert distance(exact, dropped) > 1e-4
    if METHODS[name].count == 2:  # no part is spared
        assert min(float((exact[part] - dropped[part]).abs().max()) for part in exact) > 1e-4
    repaired = state_space.exact_gradient(histories, model, particles, "weights")
    if name in MULTINOMIAL:
        assert_same(repaired, exact)
    else:
        assert distance(repaired, exact) > 1e-4


@pytest.mark.parametrize("name", ["always", "adaptive"])
def test_every_estimate_by_hand(name):
    """Each outcome alone: what the usual estimate is there, and what the ancestors' scores add to it."""
    model, particles = Toy(states=2), METHODS[name]
    p, q, likelihood = model.prior(), model.proposal(), model.likelihood()
    pairs = list(itertools.product(range(2), repeat=2))
    usual, missing, total = 0, 0, 0
    for b in range(2):
        # states, log W, log p-hat after each step, log probability of states and of ancestors, ancestors' scores
        paths = [((0, 0), torch.full((2,), math.log(0.5), dtype=torch.float64), [], 0.0, 0.0, [])]
        for t in range(3):
            log_p = p.log_transition if t else p.log_initial.expand(2, 2)
            log_q = q.log_transition[b, t - 1] if t else q.log_initial[b].expand(2, 2)
            following = []
            for states, log_w, estimates, log_states, log_ancestors, scores in paths:
                effective = 1 / float(log_w.detach().exp().square().sum())
                if t and (name == "always" or effective < particles.threshold * 2):
                    fresh = torch.full((2,), math.log(0.5), dtype=torch.float64)
                    families = [((states[i], states[j]), fresh, log_w[i] + log_w[j]) for i, j in pairs]
                else:
                    families = [(states, log_w, None)]
                for parents, weights, score in families:
                    for z in pairs:
                        log_alpha = torch.stack(
                            [log_p[u, v] + likelihood[b, t, v] - log_q[u, v] for u, v in zip(parents, z, strict=True)]
                        )
                        growth = (weights + log_alpha).logsumexp(0)
                        following.append(
                            (
                                z,
                                weights + log_alpha - growth,
                                [*estimates, (estimates[-1] if t else 0) + growth],
                                log_states + log_q[parents[0], z[0]] + log_q[parents[1], z[1]],
                                log_ancestors + (0 if score is None else score.detach()),
                                [*scores, *([] if score is None else [(t, score)])],
                            )
                        )
            paths = following
        for _, _, estimates, log_states, log_ancestors, scores in paths:
            mass, final = (log_states + log_ancestors).exp().detach(), estimates[-1]
            total = total + mass * final.detach() / 2
            usual = usual + mass * (final + final.detach() * log_states) / 2
            # the growth from the step on, not all of log p-hat: the same in expectation
            missing = missing + mass * sum((final - estimates[t - 1]).detach() * s for t, s in scores) / 2
    histories = model.histories()
    torch.testing.assert_close(total, state_space.bound_value(histories, particles).mean().detach())
    names = dict(model.named_parameters())
    found = [
        dict(zip(names, torch.autograd.grad(part, [*names.values()], retain_graph=True), strict=True))
        for part in (usual, missing)
    ]
    dropped = state_space.exact_gradient(histories, model, particles, "dropped")
    exact = state_space.exact_gradient(histories, model, particles)
    assert_same(found[0], dropped)
    assert_same({part: found[0][part] + found[1][part] for part in names}, exact)


def test_nodes_serve_a_gaussian_chain_and_its_evidence_is_kalman_s():
    model = Gaussian()
    m, a, c = (number.reshape(1, 1) for number in model.prior)
    one = torch.ones(1, 1, dtype=torch.float64)
    chain = kalman.LinearGaussianChain(a, one, c, 0.5 * one, m[0], one)
    evidence = kalman.log_evidence(chain, torch.tensor(model.x, dtype=torch.float64).view(1, 2, 1))
    expected = gradient(evidence, model)
    for schedule in ("never", "always"):
        estimate = state_space.mean_estimate(model.histories(*nodes(16)), Particles(2, schedule))
        torch.testing.assert_close(estimate, evidence, rtol=1e-6, atol=0)
        assert_same(gradient(estimate, model), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("schedule", ["never", "always"])
def test_a_reparameterised_filter_has_the_gradient_of_dropped_ancestors(schedule):
    model, particles = Gaussian(), Particles(2, schedule)
    histories = model.histories(*nodes(16))
    value = state_space.bound_value(histories, particles).detach()
    dropped = state_space.exact_gradient(histories, model, particles, "dropped")
    exact = state_space.exact_gradient(histories, model, particles)
    groups, size, generator = 400, 500, torch.Generator().manual_seed(5)
    values, slopes = [], []
    for _ in range(groups):
        mean = model.runs(particles, size, generator).mean()
        values.append(mean.detach())
        slopes.append(torch.cat([g.flatten() for g in torch.autograd.grad(mean, [*model.parameters()])]))
    means, found = torch.stack(values), torch.stack(slopes)
    assert abs(float((means.mean() - value) / (means.std() / groups**0.5))) < 4
    error = found.std(0) / groups**0.5
    both = [torch.cat([g[name].flatten() for name in g]) for g in (dropped, exact)]
    off = [(found.mean(0) - wanted) / error for wanted in both]
    assert off[0].abs().max() < 4
    assert (off[1].abs().max() > 8) == (schedule == "always")
