"""Estimators fed every outcome with its probability: their expectation without Monte Carlo error."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from vbench_discrete import vbench_estimators
from vbench_discrete.disarm_categorical import _node_logits, _tree
from vbench_discrete.states import states

from tests import toys
from tests.estimators.truth import MODELS
from vbench import Bernoulli, Categorical, Draw, Encoder, Model
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.encoders.categorical import CategoricalEncoder
from vbench.builtin.priors.categorical import CategoricalPrior
from vbench.oracles import enumeration

DATUM = 3


class Fed:
    """In place of an Rng: the uniforms that were asked for."""

    def __init__(self, u):
        self.u = u

    def uniform(self, *shape, dtype=None):
        assert shape == self.u.shape
        return self.u


class Given(Encoder):
    """An encoder whose posterior draws what it was given."""

    def __init__(self, inner, z):
        super().__init__()
        self.inner, self.given, self.z = inner, z, inner.z

    def forward(self, batch, model):
        q, given = self.inner(batch, model), self.given

        @dataclass(frozen=True)
        class Fixed(type(q)):
            def draw(self, rng, k):
                return Draw(given, self.log_prob(given))

        return Fixed(q.logits)


def expectation(estimator, model, z, mass, rng=None):
    """Gradient by parameter name and value of the expected estimate for one datum, ``mass [T]`` of each outcome."""
    batch = one(len(mass))
    within = model if z is None else Model(Given(model.encoder, z), model.decoder, model.prior)
    value, surrogate, _ = estimator(within, batch, rng)
    named = dict(model.named_parameters())
    slopes = torch.autograd.grad((mass * surrogate).sum(), list(named.values()))
    return dict(zip(named, slopes, strict=True)), (mass * value).sum()


def one(copies=1):
    batch = toys.batch()
    return batch._replace(x=batch.x[[DATUM] * copies], index=torch.full((copies,), DATUM))


def all_draws(model, k):
    """All K-tuples of states ``[K, T, *Z]`` with their probabilities ``[T]``."""
    atoms = states(model.encoder.z, one().x)
    index = torch.tensor(list(itertools.product(range(len(atoms)), repeat=k))).T
    log_q = model.posterior(one()).log_prob(atoms[:, None])[:, 0].detach()
    return atoms[index], log_q[index].sum(0).exp()


def all_uniforms(logits, pairs):
    """The middle of every cell that pairs of b = 1[u > 1 - p], b~ = 1[u < p] can tell apart, ``[pairs, T, *Z]``."""
    p = logits.detach().flatten().sigmoid()
    edges = torch.stack([torch.zeros_like(p), torch.minimum(p, 1 - p), torch.maximum(p, 1 - p), torch.ones_like(p)])
    middle, width = (edges[1:] + edges[:-1]) / 2, edges.diff(dim=0)  # [3, D]
    cells = torch.tensor(list(itertools.product(range(3), repeat=pairs * len(p)))).reshape(-1, pairs, len(p))
    variable = torch.arange(len(p))
    u = middle[cells, variable].movedim(1, 0).reshape(pairs, -1, *logits.shape[1:])
    return u, width[cells, variable].flatten(1).prod(1)


def assert_exact(found, estimator, model):
    gradient, value = found
    torch.testing.assert_close(value, enumeration.bound_value(model, one(), estimator.bound, estimator.k)[0].detach())
    truth = enumeration.exact_gradient(model, one(), estimator.bound, estimator.k)
    assert gradient.keys() == truth.keys()
    for name in truth:
        torch.testing.assert_close(gradient[name], truth[name], rtol=1e-9, atol=1e-11, msg=name)


def made(name, size=2.0, **given):
    return toys.randomize(vbench_estimators()[name](**given), 7, size)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("double-cv", "binary"),
        ("rodeo", "binary"),
        ("vimco-arithmetic", "binary"),
        ("ovis", "binary"),
        ("vimco-arithmetic", "categorical"),
        ("ovis", "categorical"),
    ],
)
def test_over_all_draws(name, where, k):
    model = MODELS[where]()
    estimator = made(name, k=k, **({"x": toys.X, "hidden": 3} if name == "rodeo" else {}))
    assert_exact(expectation(estimator, model, *all_draws(model, k)), estimator, model)


@pytest.mark.parametrize(
    ("name", "k", "pairs"), [("arm", 2, 1), ("arm", 4, 2), ("disarm", 2, 1), ("disarm", 4, 2), ("disarm-iwae", 2, 2)]
)
def test_over_all_antithetic_pairs(name, k, pairs):
    model, estimator = toys.binary(), made(name, k=k)
    u, mass = all_uniforms(model.posterior(one()).logits, pairs)
    found = expectation(estimator, model, None, mass, Fed(u))
    assert_exact(found, estimator, model)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_over_all_antithetic_trees(classes):
    model = with_classes(classes)
    estimator = made("disarm-categorical", k=2)
    logits = model.posterior(one()).logits
    u, mass = all_uniforms(_node_logits(logits, *_tree(logits)), 1)
    assert_exact(expectation(estimator, model, None, mass, Fed(u)), estimator, model)


def with_classes(classes):
    encoder = CategoricalEncoder(toys.X, 2, classes, hidden=())
    parts = BernoulliDecoder(toys.X, encoder.z, toys.MEAN, hidden=()), CategoricalPrior(encoder.z)
    return toys.randomize(Model(encoder, *parts), 3)


def test_the_outcomes_are_all_there():
    model = toys.binary()
    z, mass = all_draws(model, 2)
    assert z.shape == (2, 64, 3)
    torch.testing.assert_close(mass.sum(), torch.ones((), dtype=mass.dtype))
    u, mass = all_uniforms(model.posterior(one()).logits, 1)
    assert u.shape == (1, 27, 3)
    torch.testing.assert_close(mass.sum(), torch.ones((), dtype=mass.dtype))
    assert {type(MODELS[name]().posterior(one())) for name in ("binary", "categorical")} == {Bernoulli, Categorical}
