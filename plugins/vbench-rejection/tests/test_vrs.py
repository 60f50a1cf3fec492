"""Rejection-sampled posteriors against exact sums and integrals, and wrong twins that the same tests catch."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.func import vmap
from vbench_rejection import vrs
from vbench_rejection.vrs import VRS, Accepted

from tests import toys
from tests.gradients import judge, keys
from vbench import ELBO, Batch, DiagonalNormal, Draw, Estimate, LeaveOneOut, Model, Rng, Score, frozen, gradient_moments
from vbench.measure.evaluations import decoder_evaluations
from vbench.oracles.enumeration import states
from vbench.testing import models
from vbench.testing.replicates import by_part, gradient_function, row_gradients

COPIES = 20_000


def rejecting(plain, batch, **given):
    """The same model, its posterior sampled by rejection."""
    latent = plain.encoder.z.shape[0]
    base = "gaussian" if plain.encoder.z.support == "real" else "bernoulli"
    encoder = VRS(models.X, base, latent, (), **given)
    encoder.base = plain.encoder
    return Model(encoder, plain.decoder, plain.prior).double(), batch


def discrete(**given):
    return rejecting(models.binary(), models.batch(), **given)


def line(**given):
    plain = models.line()
    with torch.no_grad():
        plain.encoder.net.bias[:, 1:] += 0.9  # wider than the posterior, so that weights are bounded
    return rejecting(plain, models.batch(), **given)


def points(model, batch):
    """Every state, or a fine grid of a line: ``[S, B, D]`` and the log of what each stands for."""
    z = model.encoder.z
    if z.support == "binary":
        atoms, log_step = states(z, 64), 0.0
    else:
        atoms = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
        log_step = math.log(24 / 4000)
    return atoms[:, None].expand(-1, len(batch.x), *z.shape), log_step


def exact(model, batch):
    """The bound ``[B]`` with its graph, log r at the points ``[S, B]``, and the points."""
    z, log_step = points(model, batch)
    log_r = model.posterior(batch).log_prob(z) + log_step
    log_z = log_r.logsumexp(0)
    log_r = log_r - log_z
    return (log_r.exp() * (model.log_joint(batch, z) - model.posterior(batch).log_prob(z))).sum(0) + log_z, log_r, z


class Fixed:
    """The case of a standard normal prior, x | z ~ N(z, 0.7), x = 1.3, q = N(0.2, 0.9) of which only the mean moves."""

    def __init__(self, threshold, copies=1):
        self.m = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        loc = self.m.expand(copies, 1)
        self.batch = Batch(torch.full((copies, 1), 1.3, dtype=torch.float64), torch.arange(copies))
        base = DiagonalNormal(loc, torch.full_like(loc, 0.9**0.5))
        prior, noise = DiagonalNormal(torch.zeros_like(loc), torch.ones_like(loc)), 0.7**0.5
        joint = lambda batch, z: prior.log_prob(z) + DiagonalNormal(z, torch.full_like(z, noise)).log_prob(batch.x)  # noqa: E731
        posterior = Accepted(base, SimpleNamespace(log_joint=joint), self.batch, threshold, 10)
        z = SimpleNamespace(shape=(1,), support="real")
        self.model = SimpleNamespace(posterior=lambda batch: posterior, log_joint=joint, encoder=SimpleNamespace(z=z))


# by quadrature to eight places, and the slope in the mean of q
PUBLISHED = {5.0: (-1.98201288, 0.56972777), 2.0: (-1.73247614, 0.11643335), 0.0: (-1.68465266, 0.00976276)}


@pytest.mark.parametrize("threshold", PUBLISHED)
def test_the_bound_is_the_one_of_the_literature(threshold):
    case = Fixed(threshold)
    value = exact(case.model, case.batch)[0].sum()
    (slope,) = torch.autograd.grad(value, case.m)
    assert (float(value.detach()), float(slope)) == pytest.approx(PUBLISHED[threshold], abs=1e-8)
    case = Fixed(threshold, COPIES)
    estimate = Score(ELBO(), 2, LeaveOneOut())(case.model, case.batch, Rng(5))
    # the logarithm of an unbiased normaliser, a mean over 20 proposals, is low
    log_rate = torch.stack([case.model.posterior(None).draw(Rng(6), 2).info["acceptance"].log()])
    _, log_r, z = exact(Fixed(threshold).model, Fixed(threshold).batch)
    log_z = (Fixed(threshold).model.posterior(None).log_prob(z) - log_r)[0, 0].detach() + math.log(24 / 4000)
    off = estimate.value - (log_rate - log_z) - PUBLISHED[threshold][0]
    assert abs(float(off.mean())) < 4.5 * float(off.std()) / COPIES**0.5


def test_between_the_elbo_and_the_evidence():
    found = {t: float(exact(Fixed(t).model, Fixed(t).batch)[0].detach()) for t in (50.0, 5.0, 2.0, 0.0, -3.0)}
    assert found[50.0] == pytest.approx(-2.2704241762, abs=1e-8)
    assert found[-3.0] == pytest.approx(-1.68132313, abs=1e-8)
    assert list(found.values()) == sorted(found.values())
    assert found[-3.0] < -1.6813114823


class FixedTries(Accepted):
    """Four proposals, the last of them where none is accepted."""

    def _first(self, rng, k):
        made = [(*self._proposed(rng, k), rng.uniform(k, len(self.batch.x), dtype=torch.float64)) for _ in range(4)]
        z, log_q, log_a, _ = made[-1]
        log_r = log_q + log_a
        for z_i, log_q_i, log_a_i, u in reversed(made[:-1]):
            taken = u.log() < log_a_i
            z, log_r = torch.where(taken[..., None], z_i, z), torch.where(taken, log_q_i + log_a_i, log_r)
        return z, log_r, torch.ones_like(log_r)


class OwnThreshold(Accepted):
    """The threshold of a datum is the quantile of the very proposals that it is applied to."""

    def draw(self, rng, k):
        trials = self.base.draw(rng, 8)
        excess = trials.log_q - self.model.log_joint(self.batch, trials.z)
        own = replace(self, threshold=excess.sort(0).values[3])
        log_a = own._log_acceptance(trials.z, trials.log_q)
        taken = rng.uniform(*log_a.shape, dtype=torch.float64).log() < log_a
        first = taken.double().argmax(0)[None, :, None].expand(1, -1, *trials.z.shape[2:])
        others = Accepted.draw(Accepted(**vars(own)), rng, k)  # where none of the eight is
        z = torch.where(taken.any(0)[None, :, None], trials.z.gather(0, first), others.z)
        return Draw(z, own.log_prob(z) - others.info["acceptance"].log(), others.info)


class SameProposals(Accepted):
    """The normaliser is the mean acceptance of the proposals that led to the draw."""

    def draw(self, rng, k):
        z, log_r, count = self._first(rng, k)
        return Draw(z, log_r + count.log(), {"acceptance": 1 / count, "proposals": count})


class OfTheBase(Accepted):
    """Draws of q itself."""

    def draw(self, rng, k):
        z = self.base.draw(rng, k).z
        return Draw(z, super().draw(rng, k).log_q, {})


def improper(posterior, model, batch):
    """How many standard errors E[w h] / p(x) is from E_post[h], at worst over h = 1, z and z^2; one draw a copy."""
    z, log_step = points(model, Batch(batch.x[:1], batch.index[:1]))
    joint = model.log_joint(Batch(batch.x[:1], batch.index[:1]), z) + log_step
    posterior_mass = joint.softmax(0)[:, 0]
    draw = posterior.draw(Rng(8), 1)
    weight = (model.log_joint(batch, draw.z) - draw.log_q)[0].detach().exp() / joint.logsumexp(0)[0].detach().exp()

    def h(values):
        return torch.cat([torch.ones_like(values[..., :1]), values, values**2], -1)

    truth = (posterior_mass[:, None] * h(z[:, 0])).sum(0).detach()
    seen = weight[:, None] * h(draw.z[0]).detach()
    return float(((seen.mean(0) - truth) / (seen.std(0) / len(seen) ** 0.5)).abs().max())


def copies(batch, which=1, n=COPIES):
    return Batch(batch.x[which : which + 1].expand(n, -1), torch.arange(n))


@pytest.mark.parametrize("case", [discrete, line])
@pytest.mark.parametrize(
    "given", [{"quantile": 0.3}, {"threshold": 3.5}, {"quantile": 0.6, "proposals": 1, "pilots": 2}]
)
def test_weights_are_proper(case, given):
    model, batch = case(**given)
    for which in range(3):
        data = copies(batch, which)
        assert improper(model.posterior(data), model, data) < 4.5


@pytest.mark.parametrize("twin", [FixedTries, OwnThreshold, SameProposals])
def test_a_wrong_twin_has_improper_weights(twin):
    model, batch = line(quantile=0.3)
    batch = copies(batch, 2)
    right = model.posterior(batch)
    assert improper(right, model, batch) < 4.5
    assert improper(twin(**vars(right)), model, batch) > 7


@pytest.mark.parametrize(("twin", "right"), [(Accepted, True), (FixedTries, False), (OfTheBase, False)])
def test_draws_follow_the_density(twin, right):
    model, batch = line(threshold=2.0)
    one, many = copies(batch, 2, 1), copies(batch, 2, 6000)
    drawn = twin(**vars(model.posterior(many))).draw(Rng(2), 2).z[-1, :, 0].detach()
    z, _ = points(model, one)
    below = model.posterior(one).log_prob(z)[:, 0].detach().softmax(0).cumsum(0)
    place = torch.bucketize(drawn, z[:, 0, 0].contiguous()).clamp(max=len(z) - 1)
    p = stats.kstest(below[place].numpy(), "uniform").pvalue
    assert p > 1e-3 if right else p < 1e-8


class NoAcceptance(Score):
    """The score of q, not of what is left of it."""

    def forward(self, model, batch, rng):
        return super().forward(_Seen(model, lambda p, z: p.base.log_prob(z)), batch, rng)


class FrozenAcceptance(Score):
    """The acceptance is held fixed: decoder and prior learn nothing by it."""

    def forward(self, model, batch, rng):
        still = frozen(model)
        return super().forward(_Seen(model, lambda p, z: replace(p, model=still).log_prob(z)), batch, rng)


class _Seen:
    """A model whose posterior answers otherwise for its density."""

    def __init__(self, model, log_prob):
        self.model, self.how, self.log_joint = model, log_prob, model.log_joint

    def posterior(self, batch):
        made = self.model.posterior(batch)
        return SimpleNamespace(draw=made.draw, log_prob=lambda z: self.how(made, z))


def found(case, estimator, given, n=2000):
    """A verdict for each part: gradients of each datum against those of the exact bound."""
    model, batch = case(**given)
    parts = dict(model.named_parameters())
    value = exact(model, batch)[0].mean()
    truth = by_part(dict(zip(parts, torch.autograd.grad(value, list(parts.values())), strict=True)))
    gradients, _ = row_gradients(model, estimator, batch, n, 3)
    means = {part: g.reshape(n, len(batch.x), -1).mean(1) for part, g in gradients.items()}
    return {part for part, g in truth.items() if not judge(means[part], g).passed}


CASES = [(discrete, {"threshold": 3.0}), (line, {"threshold": 2.5})]


@pytest.mark.parametrize(("case", "given"), CASES)
@pytest.mark.parametrize(
    ("rule", "wrong"),
    [(Score, set()), (NoAcceptance, {"encoder", "decoder", "prior"}), (FrozenAcceptance, {"decoder", "prior"})],
)
def test_leave_one_out_gives_the_gradient_of_the_bound(case, given, rule, wrong):
    assert found(case, rule(ELBO(), 3, LeaveOneOut()), given) == wrong


def test_the_threshold_is_a_function_of_the_key_and_of_no_draw():
    model, batch = discrete()
    one, other = (batch._replace(key=torch.tensor(key)) for key in (1, 2))
    assert torch.equal(model.posterior(one).threshold, frozen(model).posterior(one).threshold)
    assert not torch.equal(model.posterior(one).threshold, model.posterior(other).threshold)
    assert not model.posterior(one).threshold.requires_grad
    posterior = model.posterior(one)
    z = posterior.draw(Rng(1), 4).z
    excess = posterior.base.log_prob(z) - model.log_joint(one, z)
    assert (excess != posterior.threshold).any()


def test_half_of_the_proposals_at_the_threshold_are_accepted_half_of_the_time():
    model, batch = line(quantile=0.25, pilots=4000)
    posterior = model.posterior(batch)
    z = posterior.base.draw(Rng(3), 4000).z
    rate = (posterior._log_acceptance(z, posterior.base.log_prob(z)).exp() >= 0.5).double().mean(0)
    assert (rate - 0.25).abs().max() < 0.03


def test_acceptance_and_trials_are_told():
    model, batch = line(threshold=2.0, proposals=3)
    posterior = model.posterior(batch)
    rate = (posterior.log_prob(points(model, batch)[0]).logsumexp(0) + points(model, batch)[1]).exp().detach()
    draw = posterior.draw(Rng(4), 5000)
    assert torch.allclose(draw.info["acceptance"], rate, rtol=0.05)
    assert torch.allclose(draw.info["proposals"].mean(0), 1 / rate, rtol=0.1)
    assert not draw.z.requires_grad
    assert torch.allclose(draw.log_q, posterior.log_prob(draw.z) - draw.info["acceptance"].log())


def test_lanes_are_what_they_are_alone():
    model, batch = discrete(threshold=2.0)
    estimator = Score(ELBO(), 2, LeaveOneOut())
    one = gradient_function(model, estimator, batch)
    chosen = keys(12)
    lanes, values = vmap(one, randomness="error")(chosen)
    assert len({float(v[0]) for v in values}) > 8
    for lane in (0, 11):
        gradients, value = one(chosen[lane])
        assert torch.allclose(values[lane], value, rtol=1e-12)
        assert all(torch.allclose(lanes[name][lane], g, rtol=1e-9, atol=1e-12) for name, g in gradients.items())


def test_the_gradient_can_be_measured():
    model, batch = discrete()
    estimator = Score(ELBO(), 2, LeaveOneOut())
    made = {how: gradient_moments(model, estimator, batch, draws=30, key=1, method=how) for how in ("vmap", "loop")}
    assert made["vmap"].variance["encoder"] == pytest.approx(made["loop"].variance["encoder"], rel=1e-8)


def test_a_hopeless_threshold_is_an_error_and_no_draw(monkeypatch):
    monkeypatch.setattr(vrs, "_ROUNDS", 20)
    model, batch = discrete(threshold=-300.0)
    with pytest.raises(RuntimeError, match="20 proposals and none is accepted"):
        model.posterior(batch).draw(Rng(1), 1)


def test_numbers_that_are_none_end_the_loop():
    model, batch = discrete()
    with torch.no_grad():
        model.decoder.net.bias.fill_(math.nan)
    estimate = Score(ELBO(), 2, LeaveOneOut())(model, batch, Rng(1))
    assert isinstance(estimate, Estimate)
    assert not estimate.value.isfinite().any()


def test_serves_real_and_binary_data_of_any_shape():
    for base in ("gaussian", "bernoulli"):
        encoder = VRS(toys.X, base, 2, ())
        assert (encoder.z.support, encoder.z.shape) == ({"gaussian": "real", "bernoulli": "binary"}[base], (2,))


def test_proposals_are_counted():
    """Of K draws: proposals until the last is accepted, M each for the normaliser, then log joint and density."""
    score, k = Score(ELBO(), 2, LeaveOneOut()), 2
    sure = line(threshold=1e3, proposals=5)
    assert decoder_evaluations(*_of(sure, score)) == k * (1 + 5 + 2)
    piloted = line(quantile=1 - 1e-9, proposals=5, pilots=7)
    assert decoder_evaluations(*_of(piloted, score)) >= 7 + k * (1 + 5 + 2)
    rare = line(threshold=1.0, proposals=5)
    assert decoder_evaluations(*_of(rare, score)) > 2 * k * (1 + 5 + 2)


def _of(made, estimator):
    model, batch = made
    return model, estimator, batch
