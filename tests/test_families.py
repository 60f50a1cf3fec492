"""Densities, draws, gradients and divergences of the probability families."""

import math

import pytest
import torch
from scipy import stats
from torch import distributions as reference
from torch.autograd import gradcheck
from torch.func import vmap

from vbench.families import Bernoulli, Categorical, DiagonalNormal, NormalMixture
from vbench.oracles.enumeration import states
from vbench.rng import Rng
from vbench.types import Space


def noise(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return DiagonalNormal(noise(*shape, seed=seed), (0.5 * noise(*shape, seed=seed + 1)).exp())


def mixture(components=3, size=2, seed=0):
    scale = (0.3 * noise(components, size, seed=seed + 2)).exp()
    return NormalMixture(noise(components, seed=seed), 2 * noise(components, size, seed=seed + 1), scale)


FAMILIES = {
    "normal": lambda *batch: normal(*batch, 3),
    "bernoulli": lambda *batch: Bernoulli(noise(*batch, 3)),
    "categorical": lambda *batch: Categorical(noise(*batch, 2, 3)),
}
every = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
EVENTS = {"normal": (3,), "bernoulli": (3,), "categorical": (2, 3)}


def values_of(family, *lead, seed=5):
    """Values in the support of ``family``."""
    kind = type(family).__name__
    event = {"DiagonalNormal": (3,), "Bernoulli": (3,), "Categorical": (2, 3)}[kind]
    raw = noise(*lead, *event, seed=seed)
    if kind == "Bernoulli":
        return (raw > 0).double()
    return torch.nn.functional.one_hot(raw.argmax(-1), 3).double() if kind == "Categorical" else raw


# ---- densities


def grid(size, reach=12.0, points=400):
    line = torch.linspace(-reach, reach, points, dtype=torch.float64)
    return torch.cartesian_prod(*[line] * size).reshape(-1, 1, size), (2 * reach / (points - 1)) ** size


@pytest.mark.parametrize("density", [normal(1, 1), normal(1, 2), mixture(3, 1), mixture(3, 2)])
def test_continuous_densities_integrate_to_one(density):
    z, cell = grid(density.loc.shape[-1])
    assert float(density.log_prob(z).exp().sum()) * cell == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("density", "space"),
    [
        (Bernoulli(noise(2, 3)), Space((3,), "binary")),
        (Categorical(noise(2, 2, 3)), Space((2, 3), "categorical")),
    ],
)
def test_discrete_densities_sum_to_one_and_have_their_mean(density, space):
    atoms = states(space)[:, None]
    mass = density.log_prob(atoms).exp()
    assert mass.shape == (len(atoms), 2)
    torch.testing.assert_close(mass.sum(0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(torch.einsum("sb,s...->b...", mass, atoms[:, 0]), density.mean)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (normal(4, 3), lambda f: reference.Independent(reference.Normal(f.loc, f.scale), 1)),
        (Bernoulli(noise(4, 3)), lambda f: reference.Independent(reference.Bernoulli(logits=f.logits), 1)),
        (
            Categorical(noise(4, 2, 3)),
            lambda f: reference.Independent(reference.OneHotCategorical(logits=f.logits), 1),
        ),
    ],
    ids=FAMILIES,
)
def test_densities_are_torchs(ours, theirs):
    z = values_of(ours, 6, 4)
    torch.testing.assert_close(ours.log_prob(z), theirs(ours).log_prob(z))
    torch.testing.assert_close(ours.mean, theirs(ours).mean)


def test_the_mixtures_density_is_torchs():
    ours = mixture()
    parts = reference.Independent(reference.Normal(ours.loc, ours.scale), 1)
    theirs = reference.MixtureSameFamily(reference.Categorical(logits=ours.logits), parts)
    z = noise(5, 4, 2)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
    torch.testing.assert_close(ours.mean[0], theirs.mean)


def test_each_datum_may_have_mixing_weights_of_its_own():
    shared = mixture()
    own = NormalMixture(torch.stack([shared.logits, shared.logits.flip(0)]), shared.loc, shared.scale)
    turned = NormalMixture(shared.logits.flip(0), shared.loc, shared.scale)
    z = noise(5, 2, 2)
    torch.testing.assert_close(own.log_prob(z)[:, 0], shared.log_prob(z)[:, 0])
    torch.testing.assert_close(own.log_prob(z)[:, 1], turned.log_prob(z)[:, 1])
    torch.testing.assert_close(own.mean, torch.cat([shared.mean, turned.mean]))
    drawn = own.draw(Rng(1), 20_000)
    assert drawn.z.shape == (20_000, 2, 2)
    torch.testing.assert_close(drawn.z.mean(0), own.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.log_q, own.log_prob(drawn.z))


def test_narrow_components_in_single_precision():
    loc, z = 2 * noise(50, 40), noise(3, 4, 40, seed=2)
    z = 0.1 * z + loc[:4]  # near components that are far from each other, twenty scales
    exact = NormalMixture(torch.zeros(50, dtype=torch.float64), loc, torch.full_like(loc, 0.1))
    single = NormalMixture(torch.zeros(50), loc.float(), torch.full((50, 40), 0.1))
    torch.testing.assert_close(single.log_prob(z.float()).double(), exact.log_prob(z), atol=0.02, rtol=0)
    free = z.float().requires_grad_()
    (slope,) = torch.autograd.grad(single.log_prob(free).sum(), free)
    torch.testing.assert_close(slope.double(), (loc[:4] - z) / 0.01, atol=0.01, rtol=1e-4)


@pytest.mark.parametrize("logit", [-800.0, -40.0, 40.0, 800.0])
def test_extreme_logits_stay_finite(logit):
    logits = torch.tensor([[logit, 0.3]], dtype=torch.float64, requires_grad=True)
    for family, z in (
        (Bernoulli(logits), torch.ones(1, 1, 2)),
        (Categorical(logits), torch.eye(2)[:1].expand(1, 1, 2)),
    ):
        value = family.log_prob(z.double())
        (slope,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert slope.isfinite().all()


# ---- draws


def test_normal_draws_have_their_distribution():
    family = normal(2, 3)
    z = family.draw(Rng(3), 5000).z
    standard = (z - family.loc) / family.scale
    assert stats.kstest(standard.flatten().numpy(), "norm").pvalue > 1e-4
    assert (torch.corrcoef(standard.flatten(1).T) - torch.eye(6)).abs().max() < 4.5 / 5000**0.5
    one = DiagonalNormal(family.loc.expand(5000, 2, 3), family.scale.expand(5000, 2, 3)).sample(Rng(4))
    assert stats.kstest(((one - family.loc) / family.scale).flatten().numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize(
    ("family", "space"),
    [
        (Bernoulli(noise(1, 3)), Space((3,), "binary")),
        (Categorical(noise(1, 2, 3)), Space((2, 3), "categorical")),
    ],
)
@pytest.mark.parametrize("method", ["draw", "sample"])
def test_discrete_draws_have_their_distribution(family, space, method):
    n = 20_000
    if method == "draw":
        z = family.draw(Rng(3), n).z
    else:
        z = type(family)(family.logits.expand(n, *family.logits.shape)).sample(Rng(4))
    atoms = states(space)
    counts = (z.flatten(1)[:, None] == atoms.flatten(1)).all(-1).sum(0)
    assert int(counts.sum()) == n
    expected = family.log_prob(atoms[:, None]).exp()[:, 0] * n
    assert stats.chisquare(counts.numpy(), expected.numpy(), sum_check=False).pvalue > 1e-4


def test_mixture_draws_have_their_distribution():
    family = mixture(seed=2)
    z = family.draw(Rng(3), 8000).z[:, 0]
    weights = family.logits.softmax(0).numpy()
    for d in range(2):

        def cdf(x, d=d):
            parts = stats.norm.cdf(x[:, None], family.loc[:, d].numpy(), family.scale[:, d].numpy())
            return parts @ weights

        assert stats.kstest(z[:, d].numpy(), cdf).pvalue > 1e-4
    # both coordinates come from one component
    mean = torch.from_numpy(weights) @ family.loc
    shared = torch.einsum("m,md,me->de", torch.from_numpy(weights), family.loc, family.loc) - mean.outer(mean)
    assert float(torch.cov(z.T)[0, 1]) == pytest.approx(float(shared[0, 1]), abs=0.15)
    assert abs(float(shared[0, 1])) > 0.5


@every
def test_draws_carry_their_density(family):
    posterior = family(4)
    draw = posterior.draw(Rng(1), 5)
    assert draw.z.shape == (5, 4, *values_of(posterior).shape)
    assert draw.z.dtype == torch.float64
    torch.testing.assert_close(draw.log_q, posterior.log_prob(draw.z), rtol=1e-13, atol=1e-13)
    assert not torch.equal(draw.z[0], draw.z[1])
    assert torch.equal(draw.z, posterior.draw(Rng(1), 5).z)


@every
def test_draws_run_under_vmap(family):
    posterior = family(4)
    keys = torch.arange(3)
    lanes = vmap(lambda key: tuple(posterior.draw(Rng(key), 2))[:2], randomness="error")(keys)
    for lane, key in enumerate(keys):
        alone = posterior.draw(Rng(key), 2)
        torch.testing.assert_close(lanes[0][lane], alone.z)
        torch.testing.assert_close(lanes[1][lane], alone.log_q)
    samples = vmap(lambda key: posterior.sample(Rng(key)), randomness="error")(keys)
    torch.testing.assert_close(samples[2], posterior.sample(Rng(2)))


def test_mixture_draws_run_under_vmap():
    family = mixture()
    lanes = vmap(lambda key: family.draw(Rng(key), 2).z, randomness="error")(torch.arange(3))
    torch.testing.assert_close(lanes[1], family.draw(Rng(1), 2).z)
    assert lanes.shape == (3, 2, 1, 2)


# ---- gradients


def test_normal_draws_are_differentiable_and_discrete_ones_are_not():
    loc, scale = noise(2, 3).requires_grad_(), noise(2, 3).exp().requires_grad_()
    z = DiagonalNormal(loc, scale).draw(Rng(2), 4).z
    for_loc, for_scale = torch.autograd.grad(z.sum(), [loc, scale])
    torch.testing.assert_close(for_loc, torch.full((2, 3), 4.0, dtype=torch.float64))
    torch.testing.assert_close(for_scale, ((z - loc) / scale).sum(0).detach())
    logits = noise(2, 3).requires_grad_()
    for family in (Bernoulli(logits), Categorical(logits)):
        draw = family.draw(Rng(2), 4)
        assert not draw.z.requires_grad
        assert draw.log_q.requires_grad
        assert not family.sample(Rng(2)).requires_grad


def test_a_normal_draws_density_moves_with_the_parameters_as_if_scored_at_the_draw():
    """Both ways: through the draw and through the density."""
    loc, log_scale = noise(4, 3).requires_grad_(), (0.5 * noise(4, 3, seed=1)).requires_grad_()
    family = DiagonalNormal(loc, log_scale.exp())
    weights = noise(5, 4, seed=2)
    draw = family.draw(Rng(1), 5)
    found, expected = (
        torch.autograd.grad((weights * log_q).sum(), [loc, log_scale], retain_graph=True, materialize_grads=True)
        for log_q in (draw.log_q, family.log_prob(draw.z))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found[1].abs().min() > 1e-3


@pytest.mark.parametrize("event", [(1,), (3,), (2, 5), (127,), (784,), (28, 28)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_bernoulli_scores_are_the_same_where_no_gradient_is_wanted(event, dtype, close):
    logits = 4 * noise(3, 4, *event)
    logits[0, 0], logits[0, 1], logits[1, 0] = 800, -800, 0
    logits = logits.to(dtype)
    bits, relaxed = (noise(4, *event, seed=1) > 0).to(dtype), noise(4, *event, seed=2).sigmoid().to(dtype)
    for z in (bits, relaxed):
        with torch.no_grad():
            for family, value in ((Bernoulli(logits), z), (Bernoulli(logits[0]), z.expand(3, *z.shape))):
                alone = family.log_prob(value)
                assert alone.dtype == dtype
                with torch.enable_grad():
                    expected = Bernoulli(family.logits.double()).log_prob(value.double())
                torch.testing.assert_close(alone.double(), expected, rtol=close, atol=close)


def test_bernoulli_scores_are_differentiated_inside_a_transform_even_where_gradients_are_off():
    logits, bits = noise(2, 4, 3), (noise(4, 3) > 0).double()

    def score(values):
        return Bernoulli(values).log_prob(bits).sum()

    with torch.no_grad():
        slope = torch.func.grad(score)(logits)
        lanes = vmap(lambda values: Bernoulli(values[None]).log_prob(bits))(logits)
        torch.testing.assert_close(lanes[:, 0], Bernoulli(logits).log_prob(bits))
    torch.testing.assert_close(slope, bits - logits.sigmoid())


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (4, 1), (4, 3)])
def test_a_normals_scale_may_be_shared(shape):
    loc, z = noise(4, 3), noise(6, 4, 3, seed=3)
    scale = noise(*shape, seed=4).exp()
    found = DiagonalNormal(loc, scale).log_prob(z)
    torch.testing.assert_close(found, reference.Normal(loc, scale).log_prob(z).sum(-1))


def test_log_densities_have_the_right_slope():
    z = noise(3, 2, 2, seed=8)
    bits, classes = (z > 0).double(), torch.nn.functional.one_hot(z.argmax(-1), 2).double()
    loc, log_scale, logits = (noise(2, 2, seed=s).requires_grad_() for s in (1, 2, 3))
    weights = noise(2).requires_grad_()
    free = z.clone().requires_grad_()
    assert gradcheck(lambda a, b, c: DiagonalNormal(a, b.exp()).log_prob(c), (loc, log_scale, free))
    assert gradcheck(lambda a, b, c, d: NormalMixture(a, b, c.exp()).log_prob(d), (weights, loc, log_scale, free))
    assert gradcheck(lambda a: Bernoulli(a).log_prob(bits), (logits,))
    assert gradcheck(lambda a: Categorical(a).log_prob(classes), (logits,))
    relaxed = torch.full_like(bits, 0.3).requires_grad_()
    assert gradcheck(lambda a, b: Bernoulli(a).log_prob(b), (logits, relaxed))


# ---- divergences


@every
def test_kl_agrees_with_monte_carlo_and_is_zero_at_itself(family):
    q, p = family(4), type(family(1))(*(0.5 * t for t in vars(family(1)).values()))
    exact = q.kl(p)
    assert exact.shape == (4,)
    assert (exact > 0.01).all()
    draw = q.draw(Rng(6), 20_000)
    terms = draw.log_q - p.log_prob(draw.z)
    error = (terms.mean(0) - exact) / (terms.std(0) / 20_000**0.5)
    assert error.abs().max() < 4.5
    torch.testing.assert_close(q.kl(q), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("q", "p", "theirs"),
    [
        (normal(4, 3), normal(1, 3, seed=7), lambda f: reference.Normal(f.loc, f.scale)),
        (
            Bernoulli(noise(4, 3)),
            Bernoulli(noise(1, 3, seed=7)),
            lambda f: reference.Bernoulli(logits=f.logits.expand(4, 3)),
        ),
        (
            Categorical(noise(4, 2, 3)),
            Categorical(noise(1, 2, 3, seed=7)),
            lambda f: reference.Categorical(logits=f.logits.expand(4, 2, 3)),
        ),
    ],
    ids=FAMILIES,
)
def test_kl_is_torchs(q, p, theirs):
    torch.testing.assert_close(q.kl(p), reference.kl_divergence(theirs(q), theirs(p)).sum(1))


# ---- masks and broadcasting


@every
def test_unobserved_entries_change_neither_value_nor_gradient(family):
    likelihood = family(2, 4)
    x = values_of(likelihood, 4)
    mask = torch.ones(4, *x.shape[1 : 2 if x.dim() > 2 else None], dtype=torch.bool)
    mask[:, 1] = False
    unknown = x.clone()
    unknown[:, 1] = torch.nan
    parameters = [t.clone().requires_grad_() for t in vars(likelihood).values()]
    masked = type(likelihood)(*parameters).log_prob(unknown, mask)
    kept = [t[:, :, [i for i in range(t.shape[2]) if i != 1]] for t in parameters]
    expected = type(likelihood)(*kept).log_prob(x[:, [i for i in range(x.shape[1]) if i != 1]])
    torch.testing.assert_close(masked, expected)
    for found, wanted in zip(
        torch.autograd.grad(masked.sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(likelihood.log_prob(x, torch.ones_like(mask)), likelihood.log_prob(x))
    assert not likelihood.log_prob(unknown, torch.zeros_like(mask)).any()


@every
def test_one_family_serves_as_posterior_prior_and_likelihood(family):
    z = values_of(family(4), 5, 4)
    posterior, prior, likelihood = family(4), family(1), family(5, 4)
    for density in (posterior, prior, likelihood):
        found = density.log_prob(z)
        assert found.shape == (5, 4)
        parameters = [t.expand(5, 4, *t.shape[2 if density is likelihood else 1 :]) for t in vars(density).values()]
        for k, b in ((0, 0), (4, 2)):
            alone = type(density)(*(t[k : k + 1, b] for t in parameters)).log_prob(z[k : k + 1, b : b + 1])
            torch.testing.assert_close(found[k, b], alone[0, 0])
    assert likelihood.log_prob(z[0]).shape == (5, 4)


@pytest.mark.parametrize("event", [(), (3,), (2, 3), (2, 2, 3)])
def test_events_of_any_shape_are_summed(event):
    family, z = normal(4, *event), noise(5, 4, *event, seed=4)
    expected = reference.Normal(family.loc, family.scale).log_prob(z).flatten(1).unflatten(1, (4, -1)).sum(2)
    torch.testing.assert_close(family.log_prob(z), expected)
    bits = (z > 0).double()
    expected = reference.Bernoulli(logits=family.loc).log_prob(bits).flatten(1).unflatten(1, (4, -1)).sum(2)
    torch.testing.assert_close(Bernoulli(family.loc).log_prob(bits), expected)
    assert family.kl(normal(1, *event, seed=9)).shape == (4,)


def test_a_scale_shared_by_all_entries_counts_for_each():
    wide = DiagonalNormal(noise(5, 4, 3), torch.full((1,), 2.0, dtype=torch.float64))
    full = DiagonalNormal(wide.loc, torch.full_like(wide.loc, 2.0))
    torch.testing.assert_close(wide.log_prob(noise(4, 3)), full.log_prob(noise(4, 3)))
    assert float(full.log_prob(full.loc)[0, 0]) == pytest.approx(-3 * math.log(2 * math.sqrt(2 * math.pi)))


@pytest.mark.parametrize("log_scale", [-2.0, -5.0, -8.0])
def test_a_mixture_of_narrow_components_in_single_precision(log_scale):
    generator = torch.Generator().manual_seed(1)
    loc = 2 * torch.randn(500, 50, generator=generator, dtype=torch.float64)
    raw = torch.full((500, 50), log_scale, dtype=torch.float64)
    z = (loc[:40] + raw[0].exp() * torch.randn(40, 50, generator=generator, dtype=torch.float64)).float()

    def of(dtype):
        own = raw.to(dtype).requires_grad_()
        value = NormalMixture(torch.zeros(500, dtype=dtype), loc.float().to(dtype), own.exp()).log_prob(
            z.to(dtype)[None]
        )
        assert value.dtype == dtype
        return value.double().detach(), torch.autograd.grad(value.sum(), own)[0].double()

    (single, slope), (exact, wanted) = of(torch.float32), of(torch.float64)
    torch.testing.assert_close(single, exact, rtol=0, atol=0.02)
    assert float((slope - wanted).norm() / wanted.norm()) < 2e-3
