"""Every registered estimator, and its wrong twins, against the exact gradient and value of its bound."""

import pytest

from tests import toys
from tests.estimators.truth import model, truth
from tests.estimators.twins import TWINS
from tests.gradients import replicate, verdicts
from vbench.bounds import ELBO, IWAE, Renyi
from vbench.builtin.plugin import vbench_estimators
from vbench.rng import derive

ESTIMATORS = vbench_estimators()


def case(name, where, bound, n=None, **parameters):
    """One estimator on one model; ``n`` replicates, more where a likelihood ratio makes them noisy."""
    n = n or (4096 if name in ("reparam", "stl", "iwae", "dreg", "renyi") else 8192)
    words = [name, *(f"{key}={value}" for key, value in parameters.items() if key != "x"), where]
    return pytest.param(name, where, bound, n, parameters, id="-".join(words))


def slow(*given, **parameters):
    """The same, of a model or a k more: the judge has an estimator at several of them by default."""
    made = case(*given, **parameters)
    return pytest.param(*made.values, id=made.id, marks=pytest.mark.slow)


CASES = [
    slow("reparam", "mixture", ELBO(), k=1),
    case("reparam", "mixture", ELBO(), k=3),
    slow("reparam", "vamp", ELBO(), k=1),
    slow("reparam", "normal", ELBO(), k=1, kl="analytic"),
    case("reparam", "normal", ELBO(), k=3, kl="analytic"),
    slow("reparam", "standard", ELBO(), k=2, kl="analytic"),
    slow("stl", "mixture", ELBO(), k=1),
    case("stl", "mixture", ELBO(), k=3),
    slow("stl", "vamp", ELBO(), k=1),
    slow("iwae", "mixture", IWAE(), k=1),
    case("iwae", "mixture", IWAE(), k=2),
    slow("iwae", "line", IWAE(), k=3),
    slow("iwae", "vamp", IWAE(), k=2),
    slow("dreg", "mixture", IWAE(), k=1),
    case("dreg", "mixture", IWAE(), k=2),
    slow("dreg", "line", IWAE(), k=3),
    slow("dreg", "vamp", IWAE(), k=2),
    case("renyi", "mixture", Renyi(0.5), k=2, alpha=0.5),
    slow("renyi", "mixture", Renyi(-0.5), k=2, alpha=-0.5),
    case("renyi", "line", Renyi(2.0), k=3, alpha=2.0),
    slow("reinforce", "binary", ELBO(), n=16384, k=1),
    case("reinforce", "binary", ELBO(), k=3),
    slow("reinforce", "categorical", ELBO(), n=16384, k=1),
    case("reinforce", "mixture", ELBO(), k=1),
    slow("reinforce", "vamp", ELBO(), k=3),
    slow("nvil", "binary", ELBO(), n=16384, k=1, x=toys.X, hidden=3),
    case("nvil", "categorical", ELBO(), k=2, x=toys.X, hidden=3),
    slow("nvil", "mixture", ELBO(), k=1, x=toys.X, hidden=3),
    case("rloo", "binary", ELBO(), k=2),
    slow("rloo", "binary", ELBO(), k=4),
    slow("rloo", "categorical", ELBO(), k=2),
    case("rloo", "mixture", ELBO(), k=4),
    slow("vimco", "binary", IWAE(), k=2),
    case("vimco", "binary", IWAE(), k=3),
    case("vimco", "categorical", IWAE(), k=2),
    slow("vimco", "mixture", IWAE(), k=2),
    slow("vimco", "line", IWAE(), k=3),
    slow("vimco", "vamp", IWAE(), k=2),
]
WRONG = [
    pytest.param(*row, id=f"{name}-{index}-{row[0]}") for name, rows in TWINS.items() for index, row in enumerate(rows)
]


def judged(estimator, where, bound, n, seed):
    return verdicts(replicate(model(where)[0], estimator, model(where)[1], n, seed), *truth(where, bound, estimator.k))


@pytest.mark.parametrize(("name", "where", "bound", "n", "parameters"), CASES)
def test_value_and_gradient_of_every_part_are_exact(name, where, bound, n, parameters):
    estimator = toys.randomize(ESTIMATORS[name](**parameters), seed=1)
    assert estimator.bound == bound
    assert estimator.unbiased
    found = judged(estimator, where, bound, n, seed=derive(name, where, estimator.k))
    assert all(verdict.passed for verdict in found.values()), found


@pytest.mark.parametrize(("where", "wrong", "twin"), WRONG)
def test_a_wrong_twin_fails_where_it_is_wrong_and_nowhere_else(where, wrong, twin):
    estimator = twin().double()
    found = judged(estimator, where, estimator.bound, 4096, seed=3)
    assert {part for part, verdict in found.items() if not verdict.passed} == wrong, found


def test_every_registered_estimator_has_a_case_and_a_wrong_twin():
    registered = set(ESTIMATORS)
    assert {parameters.values[0] for parameters in CASES} == registered
    assert set(TWINS) == registered


def test_normalized_nvil_is_declared_biased_and_is():
    estimator = toys.randomize(ESTIMATORS["nvil"](toys.X, k=2, hidden=3, normalize=True), seed=1)
    assert not estimator.unbiased
    with_scale = estimator.log_scale.data.fill_(1.0)
    found = judged(estimator, "binary", ELBO(), 8192, seed=5)
    assert not found["encoder"].passed
    assert found["encoder"].ratio == pytest.approx((-with_scale).exp().item(), abs=0.1)
    assert all(found[part].passed for part in ("value", "decoder", "prior")), found
