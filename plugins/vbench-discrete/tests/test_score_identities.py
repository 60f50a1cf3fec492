"""Closed-form variances, theorems, and estimators against each other draw by draw."""

import math

import pytest
import torch
from torch import nn
from vbench_discrete import vbench_estimators
from vbench_discrete.ovis import Nothing
from vbench_discrete.states import states
from vbench_discrete.vimco_arithmetic import ArithmeticMean

from tests import toys
from vbench import IWAE, Batch, Bernoulli, Categorical, DiagonalNormal, Encoder, Model, Rng, Space
from vbench.builtin.plugin import vbench_estimators as core

ESTIMATORS = vbench_estimators()
DRAWS = 400_000
TOYS = [(0.7, 0.45), (-1.3, 0.49), (2.0, 0.2)]


class Toy:
    """log w = f(b) = (b - p0)^2 for one binary latent of n independent data with the same logit."""

    def __init__(self, phi, p0, n=DRAWS, variables=1):
        self.logits = torch.full((n, variables), phi, dtype=torch.float64, requires_grad=True)
        self.p0 = p0
        self.batch = Batch(torch.zeros(n, 1, dtype=torch.float64), torch.arange(n))

    def posterior(self, batch):
        return Bernoulli(self.logits)

    def log_joint(self, batch, z):
        return (z - self.p0).square().sum(2) + self.posterior(batch).log_prob(z).detach()

    def gradients(self, estimator, rng):
        """Independent estimates of the gradient by the logits, ``[n, D]``."""
        surrogate = estimator(self, self.batch, rng).surrogate
        return torch.autograd.grad(surrogate.sum(), self.logits)[0]


def closed_form(phi, p0):
    """The true gradient, and the variance of each estimator (facts sheet, 4.2)."""
    p = 1 / (1 + math.exp(-phi))
    q, d, f1, f0 = min(p, 1 - p), 1 - 2 * p0, (1 - p0) ** 2, p0**2
    true = d * p * (1 - p)
    return true, {
        "reinforce": p * (1 - p) * ((1 - p) * f1**2 + p * f0**2) - true**2,
        "rloo": d**2 * p * (1 - p) * (1 - 2 * p * (1 - p)) / 2,
        "arm": 2 / 3 * d**2 * (1 / 8 - (1 / 2 - q) ** 3) - true**2,
        "disarm": d**2 * q * (1 - q) ** 2 * (1 - 2 * q) / 2,
    }


def built(name, k):
    return {**core(), **ESTIMATORS}[name](k=k)


@pytest.mark.parametrize(("phi", "p0"), TOYS)
@pytest.mark.parametrize(
    ("name", "k", "form"),
    [
        ("reinforce", 1, "reinforce"),
        ("rloo", 2, "rloo"),
        ("arm", 2, "arm"),
        ("disarm", 2, "disarm"),
        ("arms", 2, "disarm"),
    ],
)
def test_closed_form_variances_of_the_toy_problem(name, k, form, phi, p0):
    true, variances = closed_form(phi, p0)
    found = Toy(phi, p0).gradients(built(name, k), Rng(5))[:, 0]
    variance, squares = found.var(), (found - found.mean()).square()
    assert abs(found.mean() - true) < 5 * (variances[form] / DRAWS) ** 0.5
    assert abs(variance - variances[form]) < 5 * squares.std() / DRAWS**0.5
    assert variance == pytest.approx(variances[form], rel=0.03)


def test_disarm_is_silent_at_one_half():
    found = Toy(0.0, 0.45, n=1000).gradients(built("disarm", 2), Rng(5))
    torch.testing.assert_close(found, torch.full_like(found, 0.1 / 4))


def test_means_of_pairs_divide_the_variance():
    _, variances = closed_form(0.7, 0.45)
    for name in ("arm", "disarm"):
        found = Toy(0.7, 0.45).gradients(built(name, 6), Rng(5))
        assert found.var() == pytest.approx(variances[name] / 3, rel=0.03)


class Table(Encoder):
    """One free row of logits for each datum of the batch."""

    def __init__(self, inner, batch, n):
        super().__init__()
        self.z, self.make = inner.z, type(inner(batch, None))
        self.logits = nn.Parameter(inner(batch, None).logits.detach().expand(n, *inner.z.shape).clone())

    def forward(self, batch, model):
        return self.make(self.logits)


def spread_over(model, n):
    """The model with n free copies of the posterior of one datum, and that datum n times."""
    batch = toys.batch()
    one = batch._replace(x=batch.x[1:2], index=batch.index[1:2])
    copies = Batch(one.x.expand(n, -1), torch.arange(n))
    return Model(Table(model.encoder, one, n), model.decoder, model.prior), copies


def by_logits(model, batch, estimator, rng):
    surrogate = estimator(model, batch, rng).surrogate
    return torch.autograd.grad(surrogate.sum(), model.encoder.logits)[0].flatten(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0.3, 1.5])
def test_disarm_never_varies_more_than_arm(seed, size):
    model, batch = spread_over(toys.randomize(toys.binary(), seed, size), 40_000)
    arm, disarm = (by_logits(model, batch, built(name, 2), Rng(seed)) for name in ("arm", "disarm"))
    assert (disarm.var(0) < arm.var(0)).all()
    # it is the same pair with u integrated out: what is left is noise of its own
    torch.testing.assert_close((arm - disarm).mean(0), torch.zeros(3).double(), atol=float(5 * arm.std() / 200), rtol=0)


class Fed:
    """In place of an Rng: the uniforms that were asked for."""

    def __init__(self, u):
        self.u = u

    def uniform(self, *shape, dtype=None):
        assert shape == self.u.shape
        return self.u


def test_arms_of_two_is_disarm_draw_by_draw():
    model, batch = spread_over(toys.binary(1.0), 500)
    noise = torch.rand(2, 500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    e = -noise.log()
    first = 1 - e[0] / e.sum(0)
    shared = torch.where(model.encoder.logits >= 0, first, 1 - first).detach()[None]
    arms, disarm = ESTIMATORS["arms"](k=2), ESTIMATORS["disarm"](k=2)
    torch.testing.assert_close(arms(model, batch, Fed(noise)).value, disarm(model, batch, Fed(shared)).value)
    torch.testing.assert_close(
        by_logits(model, batch, arms, Fed(noise)), by_logits(model, batch, disarm, Fed(shared)), rtol=1e-9, atol=1e-9
    )


def test_four_arms_beat_two_pairs_and_four_independent_samples():
    model, batch = spread_over(toys.binary(1.0), 40_000)
    arms, *rest = (by_logits(model, batch, built(name, 4), Rng(1)).var(0).sum() for name in ("arms", "disarm", "rloo"))
    assert arms < min(rest)


def test_arms_draws_from_q_and_each_pair_disagrees_as_often_as_claimed():
    phi, n = torch.tensor([-2.0, -0.4, 0.9]).double(), 200_000
    arms = ESTIMATORS["arms"](k=3)
    b = arms._draw(phi.expand(n, 3), Rng(3))
    p = phi.sigmoid()
    torch.testing.assert_close(b.mean((0, 1)), p, atol=0.005, rtol=0)
    together = (b[0] * b[2]).mean(0)
    torch.testing.assert_close(p * (1 - p) / arms._correction(phi), p - together, atol=0.005, rtol=0)


@pytest.mark.parametrize("phi", [-60.0, -12.0, 0.0, 12.0, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arms_correction_is_finite_everywhere(phi, dtype):
    for k in (2, 3, 8):
        assert ESTIMATORS["arms"](k=k)._correction(torch.tensor(phi, dtype=dtype)).isfinite()


def test_categorical_disarm_of_two_classes_is_disarm():
    n = 300
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(n, 3, 2, dtype=torch.float64, generator=generator)
    slopes = torch.randn(3, dtype=torch.float64, generator=generator)
    u = torch.rand(1, n, 3, dtype=torch.float64, generator=generator)

    class Given:
        def __init__(self, posterior, on):
            self.q, self.on = posterior, on

        def posterior(self, batch):
            return self.q

        def log_joint(self, batch, z):
            return (self.on(z) * slopes).sum(2).cos() + self.q.log_prob(z).detach()

    two = logits.clone().requires_grad_()
    one = (logits[..., 1] - logits[..., 0]).requires_grad_()
    many = ESTIMATORS["disarm-categorical"](k=2)(Given(Categorical(two), lambda z: z[..., 1]), None, Fed(u[..., None]))
    binary = ESTIMATORS["disarm"](k=2)(Given(Bernoulli(one), lambda z: z), None, Fed(u))
    torch.testing.assert_close(many.value, binary.value)
    (by_two,) = torch.autograd.grad(many.surrogate.sum(), two)
    (by_one,) = torch.autograd.grad(binary.surrogate.sum(), one)
    torch.testing.assert_close(by_two, torch.stack([-by_one, by_one], -1))


def log_weights():
    return 2 * torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_the_arithmetic_stand_in_leaves_the_bound_of_the_others():
    log_w = log_weights()
    stand_in, _ = ArithmeticMean()(log_w, toys.batch())
    for k in range(5):
        rest = torch.cat([log_w[:k], log_w[k + 1 :]])
        torch.testing.assert_close(stand_in[k], IWAE()(rest))
        torch.testing.assert_close(IWAE()(torch.cat([rest, stand_in[k : k + 1]])), IWAE()(rest))


@pytest.mark.parametrize("name", ["vimco-arithmetic", "ovis"])
def test_the_likelihood_ratio_forms_written_out(name):
    model, batch = toys.binary(), toys.batch()
    surrogate = ESTIMATORS[name](k=4)(model, batch, Rng(9)).surrogate
    z = model.posterior(batch).draw(Rng(9), 4).z
    score, log_joint = model.posterior(batch).log_prob(z), model.log_joint(batch, z)
    log_w = (log_joint - score).detach()
    weight = log_w.softmax(0)
    # with the direct term merged: log L - log L_{-k} - weight, where sum_{j != k} w_j is 1 - weight of the sum
    factor = -(1 - weight).log() - weight + (math.log(3 / 4) if name == "vimco-arithmetic" else 0)
    written = (factor * score + weight * log_joint).sum(0)
    parameters = list(model.parameters())
    for one, other in zip(*(torch.autograd.grad(s.mean(), parameters) for s in (surrogate, written)), strict=True):
        torch.testing.assert_close(one, other)
    assert Nothing()(log_w, batch)[0].eq(-torch.inf).all()


def test_local_disarm_of_one_sample_is_disarm_but_for_a_direct_term_of_mean_zero():
    model, batch = spread_over(toys.binary(), 400)
    local, plain = (by_logits(model, batch, ESTIMATORS[n](k=k), Rng(4)) for n, k in (("disarm-iwae", 1), ("disarm", 2)))
    u = Rng(4).uniform(1, 400, 3, dtype=torch.float64)
    p = model.encoder.logits.detach().sigmoid()
    direct = ((u[0] > 1 - p).double() + (u[0] < p).double()) / 2 - p
    torch.testing.assert_close(local, plain - direct)


def test_a_set_of_two_varies_as_its_closed_form_and_never_more_than_leave_one_out():
    model, batch = spread_over(toys.binary(1.5), 60_000)
    estimator = ESTIMATORS["unordered-set"](z=model.encoder.z, k=2)
    found = by_logits(model, batch, estimator, Rng(1)).var(0).sum()
    rloo = by_logits(model, batch, built("rloo", 2), Rng(1)).var(0).sum()
    atoms = states(model.encoder.z, batch.x)
    one, q = batch._replace(x=batch.x[:1]), Bernoulli(model.encoder.logits[:1].detach())
    log_q = q.log_prob(atoms[:, None])[:, 0]
    f, p, h = model.log_joint(one, atoms[:, None])[:, 0].detach() - log_q, log_q.exp(), atoms - q.mean
    difference = (f - f[:, None])[..., None] * (h - h[:, None])  # [S, S, D]
    both = p * p[:, None] / 2
    share = (1 - p) * (1 - p[:, None]) / (2 - p - p[:, None])
    true = (both[..., None] * difference).sum((0, 1))
    for variance, factor in ((found, share), (rloo, torch.full_like(share, 0.5))):
        expected = ((both * factor)[..., None] * difference.square()).sum((0, 1)) - true.square()
        assert variance == pytest.approx(expected.sum().item(), rel=0.05)
    assert found < rloo


def test_the_whole_set_is_exact():
    z, n = Space((1, 3), "categorical"), 50
    leaf = torch.tensor([[0.8, -0.3, 1.4]]).double().expand(n, 1, 3).clone().requires_grad_()
    data = Batch(torch.zeros(n, 1).double(), torch.arange(n))

    class Given:
        def posterior(self, batch):
            return Categorical(leaf)

        def log_joint(self, batch, z):
            return (z * torch.tensor([0.3, -1.0, 2.0])).sum((2, 3))

    whole, exact = (
        ESTIMATORS[name](z=z, **k)(Given(), data, Rng(1))
        for name, k in (("unordered-set", {"k": 3}), ("enumerate", {}))
    )
    torch.testing.assert_close(whole.value, exact.value)
    slopes = [torch.autograd.grad(estimate.surrogate.sum(), leaf)[0] for estimate in (whole, exact)]
    torch.testing.assert_close(*slopes)


def test_the_two_forms_of_the_wake_gradient_have_one_expectation():
    n = 40_000
    batch = toys.batch()
    copies = Batch(batch.x[1:2].expand(n, -1), torch.arange(n))
    q = toys.gaussian().posterior(Batch(batch.x[1:2], torch.arange(1)))

    class Free(Encoder):
        z = Space((2,))

        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(q.loc.detach().expand(n, 2).clone())
            self.scale = nn.Parameter(q.scale.detach().expand(n, 2).clone())

        def forward(self, batch, model):
            return DiagonalNormal(self.loc, self.scale)

    net = toys.gaussian()
    model = Model(Free(), net.decoder, net.prior)
    found = []
    for name, seed in (("rws", 1), ("rws-dreg", 2)):
        surrogate = ESTIMATORS[name](k=3)(model, copies, Rng(seed)).surrogate
        found.append(torch.cat(torch.autograd.grad(surrogate.sum(), list(model.encoder.parameters())), 1))
    error = (found[0].mean(0) - found[1].mean(0)) / ((found[0].var(0) + found[1].var(0)) / n).sqrt()
    assert error.abs().max() < 4
    assert (found[0].mean(0).abs() / found[0].std(0) * n**0.5).max() > 10


@pytest.mark.parametrize("name", ["double-cv", "rodeo"])
def test_learned_controls_lower_their_own_variance(name):
    given = {"x": toys.X, "hidden": 5} if name == "rodeo" else {}
    torch.manual_seed(0)
    estimator = ESTIMATORS[name](k=2, **given).double()
    model, batch = spread_over(toys.binary(1.5), 20_000)
    before = by_logits(model, batch, estimator, Rng(0)).var(0).sum()
    rloo = by_logits(model, batch, built("rloo", 2), Rng(0)).var(0).sum()
    torch.testing.assert_close(before, rloo)
    few_model, few = spread_over(toys.binary(1.5), 100)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.02)
    for step in range(150):
        optimizer.zero_grad()
        (-estimator(few_model, few, Rng(1000 + step)).surrogate.mean()).backward()
        optimizer.step()
    assert by_logits(model, batch, estimator, Rng(0)).var(0).sum() < 0.9 * before
