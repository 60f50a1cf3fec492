"""Every likelihood-ratio estimator, and a wrong twin of each, against exact values and gradients."""

import itertools

import pytest
import torch
from torch.func import vmap
from vbench_discrete import vbench_estimators
from vbench_discrete.arm import Arm
from vbench_discrete.arms import Arms
from vbench_discrete.binary import antithetic, by_logits, disagreement, scored, spread
from vbench_discrete.disarm import Disarm
from vbench_discrete.disarm_categorical import DisarmCategorical, _leaf, _node_logits, _tree
from vbench_discrete.disarm_iwae import DisarmIWAE
from vbench_discrete.double_cv import DoubleCV
from vbench_discrete.enumerate import Enumerate
from vbench_discrete.rodeo import Rodeo
from vbench_discrete.rws import RWS
from vbench_discrete.states import states
from vbench_discrete.unordered_set import UnorderedSet

from tests import toys
from tests.estimators.truth import model, truth
from tests.gradients import replicate, verdicts
from vbench import IWAE, Estimate, LeaveOneOut, Rng, Score
from vbench.rng import derive

ENCODER, EVERYTHING = {"encoder"}, {"value", "encoder", "decoder", "prior"}


def slow(name, where, given):
    """At a k or on a space more."""
    return pytest.param(name, where, given, marks=pytest.mark.slow)


CASES = [
    ("enumerate", "binary", {}),
    ("enumerate", "categorical", {}),
    ("disarm", "binary", {"k": 2}),
    slow("disarm", "binary", {"k": 4}),
    ("disarm-categorical", "categorical", {"k": 2}),
    slow("disarm-categorical", "categorical", {"k": 4}),
    slow("arm", "binary", {"k": 2}),
    ("arm", "binary", {"k": 4}),
    slow("arms", "binary", {"k": 2}),
    ("arms", "binary", {"k": 3}),
    slow("arms", "binary", {"k": 4}),
    slow("disarm-iwae", "binary", {"k": 1}),
    ("disarm-iwae", "binary", {"k": 3}),
    slow("vimco-arithmetic", "binary", {"k": 2}),
    ("vimco-arithmetic", "categorical", {"k": 3}),
    slow("ovis", "binary", {"k": 2}),
    ("ovis", "categorical", {"k": 3}),
    ("double-cv", "binary", {"k": 2}),
    slow("double-cv", "binary", {"k": 3}),
    ("rodeo", "binary", {"k": 2}),
    slow("rodeo", "binary", {"k": 3}),
    ("unordered-set", "binary", {"k": 2}),
    slow("unordered-set", "binary", {"k": 4}),
    ("unordered-set", "categorical", {"k": 3}),
    slow("rws", "binary", {"k": 2}),
    ("rws", "categorical", {"k": 3}),
]


def is_a(factory, *classes):
    return isinstance(factory, type) and issubclass(factory, classes)


def made(factory, where, **given):
    """The estimator, with parameters of its own drawn anew."""
    given |= {"z": model(where)[0].encoder.z} if is_a(factory, Enumerate, UnorderedSet) else {}
    given |= {"x": toys.X, "hidden": 3} if is_a(factory, Rodeo) else {}
    return toys.randomize(factory(**given), seed=1, size=2.0)  # controls that matter


def wake_phi(where, k):
    """Exact expectation of the self-normalised wake gradient, over all K-tuples, for the encoder's parameters."""
    net, batch = model(where)
    atoms = states(net.encoder.z, batch.x)[:, None].expand(-1, 5, *net.encoder.z.shape)
    log_q = net.posterior(batch).log_prob(atoms)
    log_w = (net.log_joint(batch, atoms) - log_q).detach()
    tuples = torch.tensor(list(itertools.product(range(len(atoms)), repeat=k)))  # [T, K]
    mass = log_q.detach()[tuples].sum(1).exp()
    expected = (mass[:, None] * log_w[tuples].softmax(1) * log_q[tuples]).sum((0, 1)).mean()
    named = dict(net.encoder.named_parameters())
    slopes = torch.autograd.grad(expected, list(named.values()))
    return {f"encoder.{name}": slope for name, slope in zip(named, slopes, strict=True)}


def judged(estimator, where, n, seed):
    value, gradients = truth(where, estimator.bound, estimator.k)
    if isinstance(estimator, RWS):
        gradients = gradients | wake_phi(where, estimator.k)
    return verdicts(replicate(model(where)[0], estimator, model(where)[1], n, seed), value, gradients)


@pytest.mark.parametrize(("name", "where", "given"), CASES, ids=lambda p: str(p).strip("{}").replace("'", ""))
def test_value_and_gradient_of_every_part_are_exact(name, where, given):
    estimator = made(vbench_estimators()[name], where, **given)
    assert estimator.unbiased
    found = judged(estimator, where, 16 if name == "enumerate" else 4096, seed=derive(name, where, estimator.k))
    assert all(verdict.passed for verdict in found.values()), found


class OnlyExpectation(Enumerate):
    """The states' probabilities carry no gradient."""

    def forward(self, model, batch, rng):
        value, _, _ = super().forward(model, batch, rng)
        posterior = model.posterior(batch)
        z = posterior.draw(rng, 1).z
        return Estimate(value, (model.log_joint(batch, z) - posterior.log_prob(z)).mean(0))


class WithoutSigma(Disarm):
    """The pair's sign without sigma(|phi|)."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        _, b, mirrored = antithetic(q.logits, rng, self.k // 2)
        draws = scored(model, batch, q, torch.cat([b, mirrored]))
        left, right = draws.log_w.chunk(2)
        return by_logits(draws, (0.5 * spread(left - right, b) * (b - mirrored)).mean(0), q.logits)


class ZeroOnOnePath(DisarmCategorical):
    """Nodes that decide for one of the two samples only get no gradient."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        left, right = _tree(q.logits)
        logits = _node_logits(q.logits, left, right)
        _, *choices = antithetic(logits, rng, self.k // 2)
        z, mirrored = (_leaf(b, left, right) for b in choices)
        draws = scored(model, batch, q, torch.cat([z, mirrored]))
        one, other = draws.log_w.chunk(2)
        on = (z @ (left + right).T) * (mirrored @ (left + right).T)
        gradient = 0.5 * spread(one - other, z) * on * disagreement(*choices, logits)
        return by_logits(draws, gradient.mean(0), logits)


class Independent(Arm):
    """The second sample has a uniform of its own."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        u, b, _ = antithetic(q.logits, rng, 1)
        draws = scored(model, batch, q, torch.cat([b, antithetic(q.logits, rng, 1)[1]]))
        left, right = draws.log_w.chunk(2)
        return by_logits(draws, ((u - 0.5) * spread(left - right, b)).mean(0), q.logits)


class Uncorrected(Arms):
    """Leave-one-out on dependent samples."""

    def _correction(self, logits):
        return torch.ones_like(logits)


class NoDirectDensity(DisarmIWAE):
    """The direct term leaves out its part in q, which has mean zero on a linear bound only."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        q = model.posterior(batch)
        for z in antithetic(q.logits, Rng(rng.key), self.k)[1:]:
            log_w = model.log_joint(batch, z).detach() - q.log_prob(z)
            surrogate = surrogate - self.bound(log_w) / 2
        return Estimate(value, surrogate)


class MeanOfAll(LeaveOneOut):
    """The arithmetic mean, the own sample included."""

    def forward(self, log_w, batch):
        return IWAE()(log_w).expand_as(log_w), torch.zeros_like(log_w[0])


class HalfOfItself(LeaveOneOut):
    """Half of the own weight in place of nothing."""

    def forward(self, log_w, batch):
        return log_w - 0.7, torch.zeros_like(log_w[0])


class NoCorrection(DoubleCV):
    """The mean of the control is not given back."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        q = model.posterior(batch)
        z = q.draw(Rng(rng.key), self.k).z
        slope = vmap(torch.func.grad(lambda z: (model.log_joint(batch, z[None]) - q.log_prob(z[None])).sum()))(z)
        p = q.logits.detach().sigmoid()
        lost = (self.alpha * slope.mean(0) * p * (1 - p)).detach()
        return Estimate(value, surrogate + (lost * q.logits).sum(1))


class OwnControl(Rodeo):
    """The scalar control corrects its own sample, with which it is correlated."""

    def _controls(self, log_w, slope, b, p):
        scalar, vector = super()._controls(log_w, slope, b, p)
        return scalar, vector + 3 * scalar[..., None] * (b - p)


class EqualWeights(UnorderedSet):
    """Samples without replacement, averaged as if they were with it."""

    @staticmethod
    def _ratios(log_q, rest):
        equal = torch.full_like(log_q, 1 / len(log_q))
        return equal, equal.expand(len(log_q), *log_q.shape)


class Squared(RWS):
    """The encoder gets squared weights."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z
        log_joint, score = model.log_joint(batch, z), q.log_prob(z)
        weight = (log_joint - score).detach().softmax(0)
        return Estimate(IWAE()((log_joint - score).detach()), (weight * log_joint + weight**2 * score).sum(0))


TWINS = {
    "enumerate": ("categorical", ENCODER, OnlyExpectation, {}),
    "disarm": ("binary", ENCODER, WithoutSigma, {}),
    "disarm-categorical": ("categorical", ENCODER, ZeroOnOnePath, {}),
    "arm": ("binary", ENCODER, Independent, {}),
    "arms": ("binary", ENCODER, Uncorrected, {"k": 3}),
    "disarm-iwae": ("binary", ENCODER, NoDirectDensity, {"k": 2}),
    "vimco-arithmetic": ("binary", ENCODER, lambda: Score(IWAE(), 2, MeanOfAll()), {}),
    "ovis": ("binary", ENCODER, lambda: Score(IWAE(), 2, HalfOfItself()), {}),
    "double-cv": ("binary", ENCODER, NoCorrection, {"k": 2}),
    "rodeo": ("binary", ENCODER, OwnControl, {"k": 2}),
    "unordered-set": ("categorical", EVERYTHING, EqualWeights, {"k": 3}),
    "rws": ("binary", ENCODER, Squared, {"k": 3}),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_wrong_twin_fails_where_it_is_wrong_and_nowhere_else(name):
    where, wrong, twin, given = TWINS[name]
    found = judged(made(twin, where, **given), where, 4096, seed=3)
    assert {part for part, verdict in found.items() if not verdict.passed} == wrong, found


def test_every_estimator_of_this_family_has_cases_and_a_twin():
    assert {getattr(case, "values", case)[0] for case in CASES} == set(TWINS) <= set(vbench_estimators())


def test_rws_is_not_the_gradient_of_its_bound():
    estimator = made(RWS, "binary", k=2)
    assert estimator.target is not None
    net, batch = model("binary")
    found = verdicts(replicate(net, estimator, batch, 8192), *truth("binary", IWAE(), 2))
    assert {part for part, verdict in found.items() if not verdict.passed} == ENCODER
