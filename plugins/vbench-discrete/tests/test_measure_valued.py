"""Measure-valued gradients: exact, their published variances, and what they cost."""

import pytest
import torch
from torch import nn
from torch.func import vmap

from tests import toys
from tests.estimators.truth import model, truth
from tests.gradients import keys, replicate, verdicts
from vbench import ELBO, Bernoulli, DiagonalNormal, Estimate, Estimator, Model, Rng, Space, frozen

discrete = pytest.importorskip("vbench_discrete", reason="pip install ./plugins/vbench-discrete")
from vbench_discrete.measure_valued import GaussianMeasureValued  # noqa: E402

measure_valued = discrete.vbench_estimators()["measure-valued"]


def judged(estimator, where, n=4096):
    found = verdicts(replicate(model(where)[0], estimator, model(where)[1], n, 2), *truth(where, ELBO(), 1))
    return found, {part for part, verdict in found.items() if not verdict.passed}


@pytest.mark.parametrize(
    ("where", "k", "chunk"), [("binary", 1, 2), ("binary", 2, 32), ("mixture", 1, 1), ("line", 2, 32), ("vamp", 1, 32)]
)
def test_value_and_gradient_of_every_part_are_exact(where, k, chunk):
    estimator = measure_valued(model(where)[0].encoder.z, k=k, chunk=chunk)
    found, wrong = judged(estimator, where)
    assert not wrong, found


class Gaussian(nn.Module):
    """One normal latent with unit mean and scale, and any f for its log weight."""

    def __init__(self, f, n):
        super().__init__()
        self.f = f
        self.loc, self.scale = (nn.Parameter(torch.ones(n, 1, dtype=torch.float64)) for _ in range(2))

    def posterior(self, batch):
        return DiagonalNormal(self.loc, self.scale)

    def log_joint(self, batch, z):
        return self.f(z[..., 0]) + DiagonalNormal(self.loc.detach(), self.scale.detach()).log_prob(z)


# f, exact gradients by mean and scale, and the two variances of coupled draws (Mohamed et al. 2020, figures 2 and 3)
SPOTS = {
    "square k=0": (lambda x: x.square(), (2.0, 2.0), (1.092958, 8.0)),
    "square k=-3": (lambda x: (x + 3).square(), (8.0, 2.0), (17.487331, 68.0)),
    "exp k=1": (lambda x: (-x.square()).exp(), None, (0.012568, 0.0706647)),
    "cos k=1": (lambda x: x.cos(), None, (0.028004, 0.2026278)),
}


def exact_mean(f):
    loc, scale = (torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    mean = torch.trapezoid(f(loc + scale * x) * (-x.square() / 2).exp() / (2 * torch.pi) ** 0.5, x)
    return [g.item() for g in torch.autograd.grad(mean, [loc, scale])]


@pytest.mark.parametrize(("f", "mean", "variance"), SPOTS.values(), ids=SPOTS)
def test_its_variances_are_the_published_ones(f, mean, variance):
    n = 200_000  # as many data, each with its own mean and scale
    toy = Gaussian(f, n)
    surrogate = measure_valued(Space((1,)))(toy, toys.batch(size=1), Rng(3)).surrogate
    found = torch.autograd.grad(surrogate.sum(), [toy.loc, toy.scale])
    for draws, exact, spread in zip(found, mean or exact_mean(f), variance, strict=True):
        assert draws.mean().item() == pytest.approx(exact, abs=4.5 * (spread / n) ** 0.5)
        centred = (draws - draws.mean()).square()
        assert centred.mean().item() == pytest.approx(spread, abs=4.5 * float(centred.std()) / n**0.5)


def test_bernoulli_differences_are_exact_in_their_own_variable():
    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([[0.7]], dtype=torch.float64))

        def posterior(self, batch):
            return Bernoulli(self.logits)

        def log_joint(self, batch, z):
            return (z - 0.45).square().sum(-1) + Bernoulli(self.logits.detach()).log_prob(z)

    toy, p = Toy(), torch.tensor(0.7, dtype=torch.float64).sigmoid()
    for key in range(6):
        estimate = measure_valued(Space((1,), "binary"))(toy, toys.batch(size=1), Rng(key))
        (found,) = torch.autograd.grad(estimate.surrogate.sum(), toy.logits)
        assert found.item() == pytest.approx((1 - 0.9) * (p * (1 - p)).item())


class Rayleighless(GaussianMeasureValued):
    """Normal noise where Weibull noise belongs."""

    def forward(self, model, batch, rng):
        class Noise:
            normal = rng.normal

            def uniform(self, *shape, dtype):
                half = rng.normal(*shape, dtype=dtype).abs()
                return (-half.square() / 2).exp()

        return super().forward(model, batch, Noise())


class NoDirectTerm(Estimator):
    """Decoder and prior get nothing."""

    bound = ELBO()

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, model, batch, rng):
        return self.inner(Model(model.encoder, frozen(model.decoder), frozen(model.prior)), batch, rng)


class Scaled(Estimator):
    """Everything right but a factor."""

    bound = ELBO()

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, model, batch, rng):
        value, surrogate, _ = self.inner(model, batch, rng)
        return Estimate(value, 1.05 * surrogate)


def test_wrong_twins_fail():
    z = model("mixture")[0].encoder.z
    found, wrong = judged(Rayleighless(z, 1, 32), "mixture")
    assert wrong == {"encoder"}, found
    found, wrong = judged(NoDirectTerm(measure_valued(z)), "mixture")
    assert wrong == {"decoder", "prior"}, found
    found, wrong = judged(Scaled(measure_valued(model("binary")[0].encoder.z)), "binary")
    assert "encoder" in wrong, found


@pytest.mark.parametrize(("where", "calls"), [("binary", 1 + 3), ("mixture", 1 + 4 * 2), ("line", 1 + 4)])
def test_it_says_what_it_costs(where, calls):
    where_model, batch = model(where)
    estimator, seen = measure_valued(where_model.encoder.z, k=2, chunk=2), []
    handle = where_model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    estimator(where_model, batch, Rng(1))
    handle.remove()
    assert sum(seen) == estimator.evaluations == 2 * calls


@pytest.mark.parametrize("where", ["binary", "mixture"])
def test_the_chunk_changes_memory_alone(where):
    where_model, batch = model(where)
    z = where_model.encoder.z

    def lanes(chunk):
        estimator = measure_valued(z, chunk=chunk)
        return vmap(lambda key: estimator(where_model, batch, Rng(key)).surrogate, randomness="error")(keys(3))

    torch.testing.assert_close(lanes(1), lanes(32))
    torch.testing.assert_close(lanes(2), lanes(32))
