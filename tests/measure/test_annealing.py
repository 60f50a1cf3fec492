"""Annealing against exact answers: weights are proper, forwards and backwards, and deliberate mistakes are seen."""

import functools
import itertools
import math

import pytest
import torch

from tests import toys
from vbench import DiagonalNormal, Rng, frozen
from vbench.measure import annealing
from vbench.measure.annealing import Between, Path, anneal, temperatures, tuned_steps
from vbench.oracles import conjugate

CHAINS = 8_000
LEAPS = 3
COUNT = 8
Z_MOST = 4.5


@functools.cache
def problem():
    """A linear-Gaussian model with a prior that is not standard: exact evidence and posterior."""
    model, batch = toys.linear_gaussian(prior="normal"), toys.batch(binary=False, size=3)
    exact = conjugate.log_evidence(model, batch).detach()
    mean, covariance = (each.detach() for each in conjugate.posterior(model, batch))
    return frozen(model), batch, exact, mean, covariance


def path_from(start):
    model, batch, *_ = problem()
    with torch.no_grad():
        initial = model.posterior(batch) if start == "encoder" else model.prior_density(batch)
    return Path(initial, lambda z: model.log_joint(batch, z), 3)


@functools.cache
def steps_for(start):
    return tuned_steps(
        path_from(start),
        temperatures(COUNT),
        "sigmoid",
        count=40,
        chains=8,
        wanted=0.65,
        leapfrogs=LEAPS,
        rng=Rng(5),
    )


def functions(z, mean, covariance):
    """h(z) and its exact posterior mean: 1, each z, each z^2."""
    yield torch.ones_like(z[..., 0]), torch.ones_like(mean[:, 0])
    for d in range(z.shape[-1]):
        yield z[..., d], mean[:, d]
        yield z[..., d] ** 2, mean[:, d] ** 2 + covariance[d, d]


def worst_forwards(start="prior", run=anneal, steps=None, key=1):
    """The farthest that E[w h(z)] is from p(x) E[h(z) | x], in standard errors."""
    _, _, exact, mean, covariance = problem()
    path = path_from(start)
    steps = steps_for(start) if steps is None else steps
    found = run(path, path.draw(Rng(key), CHAINS), temperatures(COUNT), steps, LEAPS, Rng(key + 100))
    w = (found.log_w - exact).exp()
    scores = []
    for h, expected in functions(found.z, mean, covariance):
        away = w * h - expected
        scores.append((away.mean(0) / away.std(0)).abs().max() * CHAINS**0.5)
    return float(max(scores))


def worst_backwards(start="prior", flip=lambda each: each.flip(0), run=anneal, key=3):
    """The same of E[1/w] p(x) = 1, by chains from exact posterior samples."""
    _, _, exact, mean, covariance = problem()
    noise = Rng(key).normal(CHAINS, *mean.shape, dtype=torch.float64)
    z = mean + noise @ torch.linalg.cholesky(covariance).T
    found = run(path_from(start), z, flip(temperatures(COUNT)), flip(steps_for(start)), LEAPS, Rng(key + 100))
    away = (found.log_w + exact).exp() - 1
    return float((away.mean(0) / away.std(0)).abs().max() * CHAINS**0.5)


@pytest.mark.parametrize("start", ["prior", "encoder"])
def test_weights_are_proper_forwards(start):
    assert worst_forwards(start) < Z_MOST


def test_weights_are_proper_backwards():
    assert worst_backwards("encoder") < Z_MOST


def always(log_ratio, rng):
    return torch.ones_like(log_ratio, dtype=torch.bool), torch.ones_like(log_ratio)


def one_temperature_late(path, z, betas, steps, leapfrogs, rng):
    """Transitions leave the temperature invariant that the weight has just left."""
    place = path.at(0.0)(z)
    log_w = torch.zeros_like(place.joint)
    for t, (old, new) in enumerate(itertools.pairwise(betas.tolist())):
        log_w = log_w + (new - old) * (place.joint - place.initial)
        place, _ = annealing._transition(path, place._replace(beta=old), steps[t], leapfrogs, rng)
    return annealing.Chains(log_w, place.z, torch.zeros(0, 3))


def test_a_transition_that_takes_every_proposal_is_seen(monkeypatch):
    monkeypatch.setattr(annealing, "accepted", always)
    assert worst_forwards() > 2 * Z_MOST


def test_a_temperature_off_by_one_is_seen():
    assert worst_forwards(run=one_temperature_late) > 2 * Z_MOST


def test_a_reverse_schedule_that_is_not_reversed_is_seen():
    assert worst_backwards("encoder", flip=lambda each: each) > 2 * Z_MOST


def spike():
    """Half of the mass at 1/20 of the width of the other: which step is accepted tells where a chain is."""

    def log_joint(z):
        halves = [-0.5 * (z[..., 0] / s) ** 2 - math.log(2 * s * (2 * math.pi) ** 0.5) for s in (0.05, 1.0)]
        return torch.logaddexp(*halves)

    zero = torch.zeros(1, 1, dtype=torch.float64)
    return Path(DiagonalNormal(zero, zero + 1.5), log_joint, 1)


def worst_at_the_spike(run):
    """As :func:`worst_forwards`, of p(x) = 1, h = 1, z^2 and whether z is in the spike."""
    found = run(
        spike(), spike().draw(Rng(1), 20_000), temperatures(20, "linear"), torch.ones(21, 1).double(), 3, Rng(2)
    )
    w, z = found.log_w.exp(), found.z[..., 0]
    inside = 0.5 * (math.erf(0.5**0.5) + math.erf(0.05 * 0.5**0.5))
    pairs = ((torch.ones_like(z), 1.0), (z**2, 0.5 * (0.05**2 + 1)), ((z.abs() < 0.05).double(), inside))
    return max(float((w * h - exact).mean().abs() / (w * h).std()) * 20_000**0.5 for h, exact in pairs)


def tuned_inside(up, down):
    """Each chain moves its own step size by what it did."""

    def run(path, z, betas, steps, leapfrogs, rng):
        place = path.at(0.0)(z)
        log_w, step = torch.zeros_like(place.joint), steps[0].expand(len(z), -1)
        for old, new in itertools.pairwise(betas.tolist()):
            log_w = log_w + (new - old) * (place.joint - place.initial)
            if new < 1:
                before = place.z
                place = transition_of_each(path, place._replace(beta=new), step, leapfrogs, rng)
                step = step * torch.where((place.z != before).any(-1), up, down)
        return annealing.Chains(log_w, place.z, torch.zeros(0, 1))

    return run


def transition_of_each(path, place, step, leapfrogs, rng):
    """The transition with a step size for each chain, ``[K, B]``."""
    v = rng.normal(*place.z.shape, dtype=place.z.dtype)
    end, u = annealing.leapfrog(path.at(place.beta), place, v, step[..., None], leapfrogs)
    ratio = end.log_density + annealing.log_normal(u) - place.log_density - annealing.log_normal(v)
    taken, _ = annealing.accepted(ratio, rng)
    pairs = zip(end[:5], place[:5], strict=True)
    return Between(*(torch.where(taken[..., None] if a.dim() == 3 else taken, a, b) for a, b in pairs), place.beta)


@pytest.mark.parametrize(("up", "down"), [(1.02, 0.98), (1.5, 0.5)])
def test_step_sizes_that_are_tuned_inside_the_run_are_seen(up, down):
    """By 2%, as published code has it, and by half: nothing else differs from what is right."""
    assert worst_at_the_spike(anneal) < Z_MOST
    assert worst_at_the_spike(tuned_inside(1.0, 1.0)) < Z_MOST
    assert worst_at_the_spike(tuned_inside(up, down)) > 1.5 * Z_MOST


def test_pilot_chains_find_the_acceptance_that_is_asked_for():
    path, betas = path_from("prior"), temperatures(60)
    for wanted in (0.5, 0.8):
        pilots = {"count": 60, "chains": 8, "wanted": wanted, "leapfrogs": LEAPS}
        steps = tuned_steps(path, betas, "sigmoid", rng=Rng(7), **pilots)
        assert steps.shape == (61, 3)
        found = anneal(path, path.draw(Rng(8), 200), betas, steps, LEAPS, Rng(9))
        assert found.acceptance.shape == (59, 3)
        assert float(found.acceptance.mean()) == pytest.approx(wanted, abs=0.1)
    again = tuned_steps(path, betas, "sigmoid", rng=Rng(7), **pilots)
    assert torch.equal(steps, again)


def test_temperatures_rise_from_nought_to_one():
    betas = temperatures(1000)
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 1001)
    sigmoid = torch.sigmoid(torch.tensor([4.0 * (2 * 300 / 1000 - 1), -4.0, 4.0], dtype=torch.float64))
    assert float(betas[300]) == pytest.approx(float((sigmoid[0] - sigmoid[1]) / (sigmoid[2] - sigmoid[1])))
    assert temperatures(4, "linear").tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_one_temperature_is_importance_sampling():
    path = path_from("encoder")
    z = path.draw(Rng(1), 7)
    found = anneal(path, z, temperatures(1), torch.ones(2, 3), LEAPS, Rng(2))
    model, batch, *_ = problem()
    expected = model.log_joint(batch, z) - model.posterior(batch).log_prob(z)
    torch.testing.assert_close(found.log_w, expected.detach())
    assert torch.equal(found.z, z)


def test_chains_start_independent_of_each_other():
    z = path_from("prior").draw(Rng(1), 5)
    assert z.shape == (5, 3, 2)
    assert len(z.unique()) == 30
