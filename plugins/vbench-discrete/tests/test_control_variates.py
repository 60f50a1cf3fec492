"""RELAX, REBAR, MuProp and LAX: exact for any control, blind to the controls' own losses, and better when trained."""

import copy
import importlib
import math

import pytest
import torch
from torch import nn

from tests import toys
from tests.estimators.truth import model, truth
from tests.gradients import gradient_function, replicate, verdicts
from vbench import ELBO, Bernoulli, Estimator, Model, Rng, Space, frozen
from vbench.estimators.reinforce import reinforce
from vbench.measure.gradients import adapt

discrete = pytest.importorskip("vbench_discrete", reason="pip install ./plugins/vbench-discrete")
from vbench_discrete.lax import Lax  # noqa: E402
from vbench_discrete.relaxation import Binary, OneHot  # noqa: E402

ESTIMATORS = discrete.vbench_estimators()
KEY = torch.tensor(5)


def build(name, where, size=0.2, **parameters):
    """The estimator with random parameters of its own; a smaller control is no better, only a sharper test."""
    if name == "lax":
        parameters["x"] = toys.X
    if name in ("lax", "relax"):
        parameters.setdefault("hidden", 3)
    estimator = ESTIMATORS[name](z=model(where)[0].encoder.z, **parameters).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return estimator


def judged(estimator, where, n=4096, seed=0):
    found = verdicts(replicate(*[model(where)[0], estimator, model(where)[1]], n, seed), *truth(where, ELBO(), 1))
    return found, {part for part, verdict in found.items() if not verdict.passed}


CASES = [
    pytest.param("relax", "binary", 1, marks=pytest.mark.slow),
    ("relax", "binary", 2),
    ("relax", "categorical", 1),
    ("rebar", "binary", 1),
    ("rebar", "categorical", 2),
    ("muprop", "binary", 1),
    ("muprop", "categorical", 2),
    ("lax", "mixture", 1),
    ("lax", "line", 2),
    pytest.param("lax", "vamp", 1, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "where", "k"), CASES)
def test_value_and_gradient_of_every_part_are_exact_for_random_controls(name, where, k):
    estimator = build(name, where, k=k)
    assert estimator.unbiased
    assert estimator.bound == ELBO()
    found, wrong = judged(estimator, where)
    assert not wrong, found


class SameDraw(Binary):
    """The free draw in place of the conditional one."""

    def conditional(self, logits, b, v):
        return self.drawn

    def latent(self, logits, u):
        self.drawn = super().latent(logits, u)
        return self.drawn


class CutBinary(Binary):
    """The path through the conditional draw is lost (relax, issue 6)."""

    def conditional(self, logits, b, v):
        return super().conditional(logits.detach(), b, v)


class CutOneHot(OneHot):
    """The same for Gumbel draws."""

    def conditional(self, logits, b, v):
        return super().conditional(logits.detach(), b, v)


class WrongConditional(Binary):
    """The noise of the other value: the conditional draw is not one."""

    def conditional(self, logits, b, v):
        return super().conditional(logits, b, v).abs() * (2 * b - 1) * 0.5


class NoTangent(Binary):
    """MuProp that does not add its control's mean back."""

    def pull(self, mean, slope):
        return 0 * slope


class NoDirectTerm(Estimator):
    """Decoder and prior get nothing."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.k, self.bound = inner, inner.k, inner.bound

    def forward(self, model, batch, rng):
        return self.inner(Model(model.encoder, frozen(model.decoder), frozen(model.prior)), batch, rng)


class PathlessLax(Lax):
    """The critic's mean is not added back."""

    def forward(self, model, batch, rng):
        class Cut:
            def posterior(self, batch):
                q = model.posterior(batch)
                return type("Q", (), {"draw": lambda self, rng, k: detached(q.draw(rng, k)), "log_prob": q.log_prob})()

            log_joint = model.log_joint

        return super().forward(Cut(), batch, rng)


def detached(draw):
    return draw._replace(z=draw.z.detach())


def swapped(name, where, relaxation):
    estimator = build(name, where)
    estimator.relaxation = relaxation
    return estimator


def pathless():
    twin = PathlessLax(toys.X, model("mixture")[0].encoder.z, hidden=3).double()
    twin.load_state_dict(build("lax", "mixture").state_dict())
    return twin


WRONG = {
    "rebar-same-draw": ("binary", {"encoder"}, lambda: swapped("rebar", "binary", SameDraw())),
    "rebar-cut-path": ("binary", {"encoder"}, lambda: swapped("rebar", "binary", CutBinary())),
    "rebar-cut-path-categorical": ("categorical", {"encoder"}, lambda: swapped("rebar", "categorical", CutOneHot())),
    "relax-wrong-conditional": ("binary", {"encoder"}, lambda: swapped("relax", "binary", WrongConditional())),
    "relax-no-direct-term": ("binary", {"decoder", "prior"}, lambda: NoDirectTerm(build("relax", "binary"))),
    "muprop-no-tangent": ("binary", {"encoder"}, lambda: swapped("muprop", "binary", NoTangent())),
    "lax-no-path": ("mixture", {"encoder"}, pathless),
    "lax-no-direct-term": ("mixture", {"decoder", "prior"}, lambda: NoDirectTerm(build("lax", "mixture"))),
}


@pytest.mark.parametrize(("where", "wrong", "twin"), WRONG.values(), ids=WRONG)
def test_a_wrong_twin_fails_where_it_is_wrong(where, wrong, twin):
    found, failed = judged(twin(), where)
    assert failed == wrong, found


def test_a_critics_loss_that_leaks_into_the_decoder_fails(monkeypatch):
    monkeypatch.setattr(importlib.import_module("vbench_discrete.relax"), "frozen", lambda model: model)
    found, failed = judged(build("relax", "binary"), "binary")
    assert {"decoder", "prior"} <= failed, found


def test_an_unfrozen_tangent_changes_nothing_but_costs_a_graph(monkeypatch):
    # MuProp has no loss of its own, so its control cannot leak: everything of it is detached
    before = gradient_function(*case("muprop"))(KEY)[0]
    monkeypatch.setattr(importlib.import_module("vbench_discrete.muprop"), "frozen", lambda model: model)
    after = gradient_function(*case("muprop"))(KEY)[0]
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient)


def case(name, where="binary", **parameters):
    where_model, batch = model(where)
    return where_model, build(name, where, **parameters), batch


@pytest.mark.parametrize(("name", "where"), [("relax", "binary"), ("relax", "categorical"), ("rebar", "binary")])
def test_without_a_control_it_is_reinforce_draw_by_draw(name, where):
    where_model, silent, batch = case(name, where, k=3)
    with torch.no_grad():
        for key, parameter in silent.named_parameters():
            if key != "log_temperature":
                parameter.zero_()
    found, value = gradient_function(where_model, silent, batch)(KEY)
    expected, theirs = gradient_function(where_model, reinforce(k=3), batch)(KEY)
    torch.testing.assert_close(value, theirs)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-9, atol=1e-11)


def test_relax_starts_as_rebar():
    where_model, batch = model("binary")
    one, other = (ESTIMATORS[name](z=where_model.encoder.z).double() for name in ("relax", "rebar"))
    found, expected = (gradient_function(where_model, e, batch)(KEY)[0] for e in (one, other))
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient)


@pytest.mark.parametrize("name", ["relax", "lax"])
def test_the_controls_parameters_move_by_their_own_loss_and_the_model_by_its_own_gradient(name):
    where_model, estimator, batch = case(name, "binary" if name == "relax" else "mixture", k=2)
    gradients, _ = gradient_function(where_model, estimator, batch)(KEY)
    held = copy.deepcopy(estimator).requires_grad_(False)
    alone, _ = gradient_function(where_model, held, batch)(KEY)
    for key, gradient in alone.items():
        torch.testing.assert_close(gradients[key], gradient)
    # a frozen model leaves the estimator's own gradient as it is
    closed = frozen(where_model)
    estimator(closed, batch, Rng(KEY)).surrogate.mean().backward()
    for key, parameter in estimator.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[f"estimator.{key}"])


class Toy(nn.Module):
    """One Bernoulli latent and f(b) = (b - 0.45)^2 for its log weight."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[logits]], dtype=torch.float64))

    def posterior(self, batch):
        return Bernoulli(self.logits)

    def log_joint(self, batch, z):
        return (z - 0.45).square().sum(-1) + Bernoulli(self.logits.detach()).log_prob(z)


class Grid:
    """Every pair of noise on a midpoint grid, in place of draws."""

    def __init__(self, n):
        line = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        self.given = [line.repeat_interleave(n), line.repeat(n)]

    def uniform(self, k, *shape, dtype):
        return self.given.pop(0).reshape(k, *shape)


@pytest.mark.parametrize("name", ["relax", "rebar"])
@pytest.mark.parametrize("relaxation", [None, CutBinary(), SameDraw()], ids=["right", "cut-path", "same-draw"])
def test_over_all_of_its_noise_the_mean_is_the_exact_gradient(name, relaxation):
    n, p = 200, 0.3  # the draw changes between two cells of the grid
    toy = Toy(math.log(p / (1 - p)))
    hidden = {"hidden": 3} if name == "relax" else {}
    estimator = ESTIMATORS[name](z=Space((1,), "binary"), k=n * n, temperature=0.4, **hidden)
    toys.randomize(estimator, 2)
    nn.init.constant_(estimator.eta, 3.0)  # a small control would hide its own mistakes
    estimator.relaxation = relaxation or estimator.relaxation
    estimate = estimator(toy, toys.batch(size=1), Grid(n))
    (found,) = torch.autograd.grad(estimate.surrogate.sum(), toy.logits)
    wrong = abs(found.item() - (1 - 2 * 0.45) * p * (1 - p))
    assert estimate.value.item() == pytest.approx(p * 0.55**2 + (1 - p) * 0.45**2)
    assert wrong > 2e-3 if relaxation else wrong < 5e-4


def test_the_variance_loss_is_the_squared_gradient_by_logits():
    toy = Toy(0.7)
    estimator = toys.randomize(ESTIMATORS["rebar"](z=Space((1,), "binary")), 3)
    estimate = estimator(toy, toys.batch(size=1), Rng(9))
    by_logits, *_ = torch.autograd.grad(estimate.surrogate.sum(), toy.logits, retain_graph=True)

    def loss(eta):
        again = copy.deepcopy(estimator)
        again.eta.data.copy_(eta)
        found = again(toy, toys.batch(size=1), Rng(9))
        return torch.autograd.grad(found.surrogate.sum(), toy.logits)[0].square().sum()

    eta, step = estimator.eta.detach(), 1e-5
    assert loss(eta) == pytest.approx(by_logits.square().item())
    slope = (loss(eta + step) - loss(eta - step)) / (2 * step)
    (found,) = torch.autograd.grad(estimate.surrogate.sum(), estimator.eta)
    torch.testing.assert_close(-found, slope, rtol=1e-6, atol=1e-9)


def spread(estimator, where, n=2000):
    samples = replicate(*[model(where)[0], estimator, model(where)[1]], n, 1).part("encoder")
    return float(samples.var(0).sum())


@pytest.mark.parametrize(
    ("name", "where", "factor"),
    [pytest.param("rebar", "binary", 20, marks=pytest.mark.slow), ("relax", "binary", 20), ("lax", "mixture", 2)],
)
def test_training_the_control_alone_reduces_the_gradients_variance(name, where, factor):
    where_model, estimator, batch = case(name, where, size=0.0, lr=0.02)
    if name != "lax":
        nn.init.zeros_(estimator.eta)  # REINFORCE
    else:
        toys.randomize(estimator, 3, size=0.2)
    before = spread(estimator, where)
    kept = copy.deepcopy(where_model.state_dict())
    adapt(where_model, estimator, [batch] * 150, 150, key=1)
    assert spread(estimator, where) < before / factor
    assert all(torch.equal(kept[key], value) for key, value in where_model.state_dict().items())


def test_a_critic_helps_where_the_relaxed_objective_is_not_used():
    where_model, estimator, batch = case("relax", "binary", size=0.0, lr=0.02, hidden=10)
    with torch.no_grad():
        estimator.eta.zero_()
    estimator.eta.requires_grad_(False)
    nn.init.normal_(estimator.critic[0].weight, generator=torch.Generator().manual_seed(1))
    before = spread(estimator, "binary")
    adapt(where_model, estimator, [batch] * 150, 150, key=1)
    assert spread(estimator, "binary") < before / 2


class Linear(Toy):
    """f(b) = 3 b."""

    def log_joint(self, batch, z):
        return 3 * z.sum(-1) + Bernoulli(self.logits.detach()).log_prob(z)


def test_muprop_has_no_variance_where_the_objective_is_linear():
    toy = Linear(0.7)
    found = []
    for key in range(8):
        surrogate = ESTIMATORS["muprop"](z=Space((1,), "binary"))(toy, toys.batch(size=1), Rng(key)).surrogate
        found.append(torch.autograd.grad(surrogate.sum(), toy.logits)[0])
    p = torch.tensor(0.7, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(torch.cat(found), (3 * p * (1 - p)).expand(8, 1))
