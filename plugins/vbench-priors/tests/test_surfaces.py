"""Latents on a simplex and on a sphere: densities, draws and gradients against closed forms and integrals."""

import functools
import math

import numpy as np
import pytest
import torch
from exact import Given, by_part, estimated, even, gaussian, model_of, off, truth
from scipy import special, stats
from torch import distributions as reference
from vbench_priors.kumaraswamy import Kumaraswamy, KumaraswamyEncoder
from vbench_priors.logit_normal import LogitNormal, LogitNormalEncoder
from vbench_priors.polar_angle import PolarAngle
from vbench_priors.stick_breaking import BrokenStick, StickBreakingPrior
from vbench_priors.sticks import log_complement, shares, weights
from vbench_priors.uniform_sphere import UniformSphere, UniformSpherePrior
from vbench_priors.von_mises_fisher import VonMisesFisher, VonMisesFisherEncoder

from tests import toys
from vbench import (
    AnalyticKL,
    DoublyReparameterized,
    Draw,
    Encoder,
    Pathwise,
    Prior,
    Rng,
    build,
    encode,
    fixed_batches,
    sample,
)

f64 = {"dtype": torch.float64}
GAUSS, EVEN = gaussian(16, 2), even(61, 2)


# ---- the stick


def test_weights_and_shares_are_each_others_inverse():
    v = torch.tensor([[[0.3, 1e-9, 1 - 1e-9, 0.8]]], **f64)
    z = weights(v.log(), (-v).log1p())
    assert torch.allclose(z.sum(-1), torch.ones(1, 1, **f64))
    assert float(z[0, 0, 2]) == pytest.approx(0.7 * (1 - 1e-9) * (1 - 1e-9))
    back = shares(z)
    torch.testing.assert_close(back.log_v, v.log(), rtol=1e-8, atol=0)
    torch.testing.assert_close(back.log_rest, (-v).log1p(), rtol=1e-6, atol=1e-15)


def test_the_volume_is_the_jacobians():
    v = torch.tensor([0.2, 0.7, 0.4], **f64)
    jacobian = torch.autograd.functional.jacobian(lambda v: weights(v.log(), (-v).log1p())[:-1], v)
    found = shares(weights(v.log(), (-v).log1p())[None, None]).log_volume
    assert float(found) == pytest.approx(float(jacobian.det().log()))


def test_complements_keep_their_digits():
    exact = torch.tensor([1e-300, 1e-12, 0.3, 0.7, 1 - 1e-12], **f64)
    torch.testing.assert_close(log_complement(exact.log()), (-exact).log1p(), rtol=1e-4, atol=0)
    torch.testing.assert_close(log_complement(torch.tensor([-1e-12], **f64)), torch.tensor([math.log(1e-12)], **f64))


@pytest.mark.parametrize("a", [0.02, 1.0, 40.0])
@pytest.mark.parametrize("b", [0.02, 1.0, 40.0])
def test_long_sticks_stay_finite(a, b):
    raw = torch.tensor([a, b], **f64).log()[:, None, None].expand(2, 3, 50).clone().requires_grad_()
    drawn = Kumaraswamy(*raw.exp()).draw(Rng(1), 200)
    log_p = BrokenStick(torch.full((1, 1), math.log(5.0), **f64), 50).log_prob(drawn.z)
    if b < 0.1:  # fifty shares that each take all but e^-50
        assert drawn.log_q.isnan().all()
        assert log_p.isnan().all()
        return
    assert torch.isfinite(drawn.log_q).all()
    assert torch.isfinite(log_p).all()
    (slope,) = torch.autograd.grad((log_p - drawn.log_q).mean(), raw)
    assert torch.isfinite(slope).all()


def long_sticks():
    """Posterior, and concentration of the prior."""
    many, some = torch.ones(1, 100, **f64), torch.ones(1, 6, **f64)
    return {
        "kumaraswamy": (Kumaraswamy(many, 0.32 * many), 0.3),
        "logit-normal": (LogitNormal(20 * some, math.log(25.0) * some), 0.05),
    }


def mean_weight(q, concentration):
    """E_q p / q, which is one wherever both are densities, and its error."""
    drawn = q.draw(Rng(5), 20_000)
    log_a = torch.full((1, 1), math.log(concentration), dtype=drawn.z.dtype)
    weight = (BrokenStick(log_a, drawn.z.shape[-1] - 1).log_prob(drawn.z) - drawn.log_q).double().exp()
    return float(weight.mean()), float(weight.std() / len(weight) ** 0.5)


@pytest.mark.parametrize("name", long_sticks())
def test_many_shares_have_a_density_and_single_precision_says_that_it_has_none(name, monkeypatch):
    q, concentration = long_sticks()[name]
    mean, error = mean_weight(q, concentration)
    assert error < 0.1
    assert abs(mean - 1) < 4 * error
    short = type(q)(*(each.float() for each in vars(q).values()))
    assert math.isnan(mean_weight(short, concentration)[0])
    monkeypatch.setattr(torch.Tensor, "masked_fill", lambda self, *given: self)  # what it would be, if it were told
    mean, error = mean_weight(short, concentration)
    assert not abs(mean - 1) < 10 * error


@pytest.mark.parametrize("encoder", [KumaraswamyEncoder, LogitNormalEncoder])
def test_a_model_in_single_precision_has_the_rate_and_the_slope_of_one_in_double(encoder):
    net = toys.randomize(encoder(toys.X, 200, (3,)), 3, 0.5)
    batch = toys.batch(size=2)

    def rate(double):
        own = net.double() if double else net.float()
        q = own(batch._replace(x=batch.x.double() if double else batch.x.float()), None)
        drawn = q.draw(Rng(2), 50)
        log_p = StickBreakingPrior(own.z)(None, None).log_prob(drawn.z)
        value = (log_p - drawn.log_q).mean()
        return float(value.detach()), [g.double().clone() for g in torch.autograd.grad(value, list(own.parameters()))]

    (single, slopes), (exact, wanted) = rate(False), rate(True)
    assert single == pytest.approx(exact, rel=1e-4)
    for one, other in zip(slopes, wanted, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-3
    # along the net's own outputs the path is the derivative of what is measured, nothing jumps
    bias = list(net.parameters())[-1].data
    up = (bias.add_(1e-4), rate(True)[0])[1]
    down = (bias.sub_(2e-4), rate(True)[0])[1]
    assert (up - down) / 2e-4 == pytest.approx(float(wanted[-1].sum()), rel=1e-3)


def test_decoders_in_single_precision_take_sticks_in_double():
    parts = {"encoder": "kumaraswamy[latent=60,hidden=[8]]", "decoder": "bernoulli[hidden=[8]]"}
    cell = build(dataset="bernoulli-bars", prior="stick-breaking", estimator="iwae[k=2]", **parts)
    batch = next(fixed_batches(cell.data, "train", 5, 0))
    estimate = cell.estimator(cell.model, batch, Rng(1))
    estimate.surrogate.sum().backward()
    assert all(p.grad is None or (p.grad.dtype == p.dtype and p.grad.isfinite().all()) for p in cell.model.parameters())
    assert sample(cell, 3).shape == (3, *cell.data.x.shape)
    codes = encode(cell, cell.data.test[:4])
    torch.testing.assert_close(codes.sum(-1), torch.ones(1, 4, **f64))


def sticks(v):
    """One share only: weights and density of the share, no volume."""
    return torch.stack([v, 1 - v], -1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            Kumaraswamy(torch.tensor([[0.6], [2.5]], **f64), torch.tensor([[1.7], [0.4]], **f64)),
            reference.Kumaraswamy(torch.tensor([0.6, 2.5], **f64), torch.tensor([1.7, 0.4], **f64)),
        ),
        (
            LogitNormal(torch.tensor([[0.5], [-1.0]], **f64), torch.tensor([[0.3], [-0.4]], **f64)),
            reference.TransformedDistribution(
                reference.Normal(torch.tensor([0.5, -1.0], **f64), torch.tensor([0.3, -0.4], **f64).exp()),
                [reference.SigmoidTransform()],
            ),
        ),
        (
            BrokenStick(torch.full((1, 1), math.log(3.0), **f64), 1),
            reference.Beta(torch.tensor([1.0], **f64), torch.tensor([3.0], **f64)),
        ),
    ],
    ids=["kumaraswamy", "logit-normal", "stick-breaking"],
)
def test_densities_of_shares_are_torchs(ours, theirs):
    v = torch.rand(7, 2, generator=torch.Generator().manual_seed(1), **f64)
    torch.testing.assert_close(ours.log_prob(sticks(v)), theirs.log_prob(v))


def test_the_sampled_kl_is_the_endless_series():
    """KL of a Kumaraswamy share from Beta(1, beta), by the source's series, thousands of terms long."""
    a, b, beta = 0.8, 1.6, 5.0
    m = np.arange(1, 200_000)
    series = (beta - 1) * b * np.sum(np.exp(special.betaln(m / a, b)) / (m + a * b))
    closed = (a - 1) / a * (-np.euler_gamma - special.digamma(b) - 1 / b) + math.log(a * b) + special.betaln(1, beta)
    exact = closed - (b - 1) / b + series
    q = Kumaraswamy(torch.full((1, 1), a, **f64), torch.full((1, 1), b, **f64))
    p = BrokenStick(torch.full((1, 1), math.log(beta), **f64), 1)
    u, mass = even(301, 1)
    drawn = q.draw(Given(uniform=u), len(u))
    assert float((mass[:, None] * (drawn.log_q - p.log_prob(drawn.z))).sum().detach()) == pytest.approx(exact, abs=1e-4)


# ---- the sphere


@pytest.mark.parametrize("n", [2, 3, 8, 50])
@pytest.mark.parametrize("kappa", [1.0, 12.0, 1e3, 1e6])
def test_normaliser_quantiles_and_their_slope(n, kappa):
    k = torch.tensor([kappa], **f64).requires_grad_()
    angle = PolarAngle(k, n)
    order = n / 2 - 1
    # the integral of exp(kappa (cos t - 1)) sin^(n-2) t, by the Bessel function
    bessel = math.log(special.ive(order, kappa)) if kappa < 1e6 or n < 50 else None
    if bessel is not None and math.isfinite(bessel):
        exact = bessel - order * math.log(kappa / 2) + math.lgamma((n - 1) / 2) + 0.5 * math.log(math.pi)
        assert float(angle.log_normaliser.detach()) == pytest.approx(exact, rel=1e-10, abs=1e-10)
        mean = special.ive(n / 2, kappa) / special.ive(order, kappa) - 1
        assert float(angle.mean_cosine_less_one.detach()) == pytest.approx(mean, rel=1e-7)
    u = torch.tensor([1e-9, 1e-3, 0.2, 0.5, 0.9, 1 - 1e-6], **f64)[:, None]
    t = angle.quantile(u)
    assert (t.diff(dim=0) > 0).all()
    h = 1e-4
    up, down = (PolarAngle(k.detach() * factor, n).quantile(u) for factor in (1 + h, 1 - h))
    found = torch.stack([torch.autograd.grad(each, k, retain_graph=True)[0] for each in t[:, 0]])
    torch.testing.assert_close(found, (up - down) / (2 * h * kappa), rtol=1e-4, atol=1e-9 / kappa)


@pytest.mark.parametrize(("n", "kappa"), [(2, 3.0), (3, 9.0), (11, 40.0)])
def test_the_angles_distribution_is_scipys(n, kappa):
    u = torch.rand(2000, 1, generator=torch.Generator().manual_seed(2), **f64)
    cosine = PolarAngle(torch.tensor([kappa], **f64), n).quantile(u).cos().numpy()
    theirs = stats.vonmises_fisher(np.eye(n)[0], kappa, seed=4).rvs(2000)[:, 0]
    assert stats.ks_2samp(cosine[:, 0], theirs).pvalue > 1e-3


@pytest.mark.parametrize("n", [2, 3, 7])
def test_density_and_divergence_are_scipys(n):
    generator = torch.Generator().manual_seed(n)
    mean, z = (torch.randn(count, n, generator=generator, **f64) for count in (3, 5))
    mean, z = mean / mean.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True)
    kappa = torch.tensor([1.3, 20.0, 400.0], **f64)
    ours = VonMisesFisher(mean, kappa)
    uniform = UniformSphere(torch.zeros(1, n, **f64))
    for b in range(3):
        theirs = stats.vonmises_fisher(mean[b].numpy(), float(kappa[b]))
        log_prob = ours.log_prob(z[:, None].expand(-1, 3, -1))[:, b]
        torch.testing.assert_close(log_prob, torch.from_numpy(theirs.logpdf(z.numpy())))
        kl = -theirs.entropy() - float(uniform.log_prob(z[:1]))
        assert float(ours.kl(uniform)[b]) == pytest.approx(kl, rel=1e-8)
    swapped = VonMisesFisher(mean, kappa.flip(0)).kl(uniform)
    assert not torch.allclose(swapped, ours.kl(uniform), rtol=1e-2)


def test_draws_stand_around_their_mean_wherever_it_points():
    mean = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0], [-0.6, 0.8, 0]], **f64)
    z = VonMisesFisher(mean, torch.full((4,), 50.0, **f64)).draw(Rng(3), 5000).z
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(5000, 4, **f64))
    centre = z.mean(0)
    torch.testing.assert_close(centre / centre.norm(dim=1, keepdim=True), mean, atol=1e-2, rtol=0)
    torch.testing.assert_close(
        centre.norm(dim=1), torch.full((4,), 1 / math.tanh(50) - 1 / 50, **f64), atol=1e-3, rtol=0
    )


# ---- gradients

ENCODERS = {
    "kumaraswamy": (KumaraswamyEncoder, lambda: (Given(uniform=EVEN[0]), EVEN[1])),
    "logit-normal": (LogitNormalEncoder, lambda: (Given(normal=GAUSS[0]), GAUSS[1])),
    "von-mises-fisher": (VonMisesFisherEncoder, lambda: on_the_sphere(61, 20)),
}


def on_the_sphere(heights, around):
    u, mass = even(heights, 1)
    angle = (torch.arange(around, **f64) + 0.5) / around * 2 * math.pi
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    rng = Given(uniform=u.repeat_interleave(around, 0)[:, 0], normal=circle.repeat(heights, 1))
    return rng, mass.repeat_interleave(around) / around


@functools.cache
def exact_of(name):
    return truth(*surface(name))


def surface(name, twin=None):
    encoder = ENCODERS[name][0](toys.X, 2, (3,))
    sphere = name == "von-mises-fisher"
    prior = UniformSpherePrior(encoder.z) if sphere else StickBreakingPrior(encoder.z, learned=True)
    model = model_of(encoder, prior)
    if twin is not None:
        model.encoder = twin(model.encoder)
    return model, toys.batch(size=2)


@pytest.mark.parametrize("rule", [Pathwise, DoublyReparameterized])
@pytest.mark.parametrize("name", ENCODERS)
def test_gradient_of_every_part(name, rule):
    model, batch = surface(name)
    errors = off(estimated(model, batch, rule, *ENCODERS[name][1]()), exact_of(name))
    assert set(errors) == {"encoder", "decoder"} if name == "von-mises-fisher" else {"encoder", "decoder", "prior"}
    assert max(errors.values()) < 2e-4, errors


def test_gradient_with_the_divergence_in_closed_form():
    model, batch = surface("von-mises-fisher")
    rng, mass = on_the_sphere(61, 20)

    posterior = model.posterior(batch)
    fit = (mass[:, None] * model.log_likelihood(batch, posterior.draw(rng, len(mass)).z)).sum(0)
    found = by_part((fit - posterior.kl(model.prior_density(batch))).mean(), model)
    assert max(off(found, exact_of("von-mises-fisher")).values()) < 2e-4
    assert AnalyticKL(3)(model, batch, Rng(1)).value.shape == (2,)


class Twin(Encoder):
    """The encoder whose draws lose something on the way."""

    def __init__(self, right):
        super().__init__()
        self.right, self.z = right, right.z

    def forward(self, batch, model):
        q, outer = self.right(batch, model), self

        class Lost(type(q)):
            def draw(self, rng, k):
                z = outer.lost(q).draw(rng, k).z
                return Draw(z, q.log_prob(z))

        return Lost(*vars(q).values())


class OneParameterDetached(Twin):
    def lost(self, q):
        first, second = list(vars(q).values())[:2]
        return type(q)(first, second.detach())


class SharesForWeights(Twin):
    """Draws whose second share is taken of the whole."""

    def lost(self, q):
        class Whole:
            def draw(self, rng, k):
                z = q.draw(rng, k).z
                v = shares(z).log_v.exp()
                return Draw(torch.cat([v, 1 - v.sum(-1, keepdim=True)], -1).abs(), None)

        return Whole()


def proposed(cosine, kappa, n=3):
    """Ulrich's proposal that would have given such a cosine, the draw as its function, and the log of its slope."""
    b = ((4 * kappa.square() + (n - 1) ** 2).sqrt() - 2 * kappa) / (n - 1)
    y = ((1 - cosine) / (1 + b - cosine * (1 - b))).detach()
    drawn = (1 - (1 + b) * y) / (1 - (1 - b) * y)
    return drawn, (2 * b).log() - 2 * (1 - (1 - b) * y).log()


class RejectionPathAlone(Twin):
    """What is accepted, differentiated as a function of its proposal, and nothing for the acceptance."""

    def lost(self, q):
        class Accepted:
            def draw(self, rng, k):
                z = q.draw(rng, k).z
                along = (z * q.mean_direction).sum(-1, keepdim=True)
                side = z - along * q.mean_direction
                side = side / side.norm(dim=-1, keepdim=True)
                cosine, _ = proposed(along[..., 0].detach(), q.concentration)
                # the sideways direction as in q, the angle as proposed
                value = cosine[..., None] * q.mean_direction + (1 - cosine.square()).sqrt()[..., None] * side
                return Draw(value, None)

        return Accepted()


@pytest.mark.parametrize(
    ("name", "twin", "worst"),
    [
        ("kumaraswamy", OneParameterDetached, "encoder"),
        ("logit-normal", OneParameterDetached, "encoder"),
        ("von-mises-fisher", OneParameterDetached, "encoder"),
        ("von-mises-fisher", RejectionPathAlone, "encoder"),
        ("kumaraswamy", SharesForWeights, "decoder"),
        ("logit-normal", SharesForWeights, "prior"),
    ],
)
def test_a_wrong_draw_is_seen(name, twin, worst):
    model, batch = surface(name, twin)
    exact = exact_of(name)
    errors = off(estimated(model, batch, Pathwise, *ENCODERS[name][1]()), exact)
    assert errors[worst] > 0.02, errors
    if twin is not SharesForWeights:
        assert max(error for part, error in errors.items() if part != "encoder") < 2e-4


def test_rejection_with_its_correction_has_the_same_mean():
    model, batch = surface("von-mises-fisher", RejectionPathAlone)
    rng, mass = on_the_sphere(61, 20)
    q, draw = model.posterior(batch), model.posterior(batch).draw(rng, len(mass))
    log_w = model.log_joint(batch, draw.z) - draw.log_q
    along = (draw.z.detach() * q.mean_direction.detach()).sum(-1)
    cosine, log_slope = proposed(along, q.concentration)
    # what is accepted, as a density of its proposal: the score of that is what the path has left out
    log_accepted = q.concentration * (cosine - 1) - PolarAngle(q.concentration, 3).log_normaliser + log_slope
    found = by_part((mass[:, None] * (log_w + log_w.detach() * log_accepted)).sum(0).mean(), model)
    assert max(off(found, exact_of("von-mises-fisher")).values()) < 2e-4


class BetaOneTooMany(Prior):
    """(1 - v) to the power alpha, not alpha - 1."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, batch, model):
        p = self.right(batch, model)

        class Wrong(BrokenStick):
            def log_prob(self, z):
                return super().log_prob(z) + shares(z).log_rest.sum(-1)

        return Wrong(p.log_concentration, p.count)


class NoVolume(BetaOneTooMany):
    """The density of shares, taken for that of weights."""

    def forward(self, batch, model):
        p = self.right(batch, model)

        class Wrong(BrokenStick):
            def log_prob(self, z):
                return super().log_prob(z) + shares(z).log_volume

        return Wrong(p.log_concentration, p.count)


@pytest.mark.parametrize("twin", [BetaOneTooMany, NoVolume])
def test_a_wrong_prior_is_seen_in_the_encoder(twin):
    model, batch = surface("kumaraswamy")
    exact = exact_of("kumaraswamy")
    model.prior = twin(model.prior)
    errors = off(estimated(model, batch, Pathwise, *ENCODERS["kumaraswamy"][1]()), exact)
    assert errors["encoder"] > 0.02
    assert errors["decoder"] < 2e-4


def test_a_wrong_normaliser_is_seen_in_the_prior():
    model, batch = surface("kumaraswamy")
    exact = exact_of("kumaraswamy")

    class Unnormalised(BetaOneTooMany):
        def forward(self, batch, model):
            p = self.right(batch, model)

            class Wrong(BrokenStick):
                def log_prob(self, z):
                    return super().log_prob(z) - self.count * self.log_concentration.sum()

            return Wrong(p.log_concentration, p.count)

    model.prior = Unnormalised(model.prior)
    errors = off(estimated(model, batch, Pathwise, *ENCODERS["kumaraswamy"][1]()), exact)
    assert errors["prior"] > 0.02
    assert max(errors["encoder"], errors["decoder"]) < 2e-4
