"""The parts: what they compute, what they ignore, and what they refuse."""

import math

import pytest
import torch
from torch.func import vmap
from vbench_sequence import vbench_estimators
from vbench_sequence.filtering_encoder import FilteringEncoder
from vbench_sequence.linear_gaussian_chain import LinearGaussianChainDecoder, LinearGaussianChainPrior
from vbench_sequence.parts import mean_of_step
from vbench_sequence.smoothing_encoder import SmoothingEncoder
from vbench_sequence.stochastic_volatility import StochasticVolatilityDecoder, StochasticVolatilityPrior
from vbench_sequence.vrnn import VRNNDecoder, VRNNPrior

from tests.gradients import gradient_function, keys
from tests.toys import randomize
from vbench import Batch, Incompatible, Model, Rng, Space, build
from vbench.measure.diagnostics import diagnose
from vbench.measure.likelihood import log_likelihood

T, WIDTH, LATENT = 5, 4, 3
BINARY, REAL = Space((T, WIDTH), "binary"), Space((T, LATENT))
Z = Space((T, LATENT))


def data(space, size=6, seed=2):
    x = torch.randn(size, *space.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x > 0.3).double() if space.support == "binary" else x


def model(kind="vrnn", encoder=FilteringEncoder):
    x = BINARY if kind == "vrnn" else REAL
    made = {
        "vrnn": lambda: (VRNNDecoder(x, Z, data(x), hidden=(5,)), VRNNPrior(x, Z, data(x))),
        "chain": lambda: (LinearGaussianChainDecoder(x, Z, data(x)), LinearGaussianChainPrior(Z)),
        "volatility": lambda: (StochasticVolatilityDecoder(x, Z), StochasticVolatilityPrior(Z)),
    }[kind]()
    return randomize(Model(encoder(x, data(x), latent=LATENT, hidden=(5,)), *made), 5, 0.4), x


def ragged(x, size=6):
    lengths = torch.tensor([5, 2, 4, 1, 3, 4])[:size]
    mask = (torch.arange(T) < lengths[:, None])[..., None].expand(-1, -1, *x.shape[1:])
    return Batch(data(x, size), torch.arange(size), mask=mask)


KINDS = [
    (kind, encoder) for kind in ("vrnn", "chain", "volatility") for encoder in (FilteringEncoder, SmoothingEncoder)
]
every = pytest.mark.parametrize(("kind", "encoder"), KINDS, ids=lambda p: getattr(p, "__name__", p))


def value_and_gradients(net, batch, estimator):
    made = estimator(net, batch, Rng(3))
    slopes = torch.autograd.grad(made.surrogate.sum(), [*net.parameters()], allow_unused=True, materialize_grads=True)
    return [made.value, *slopes]


ESTIMATORS = ("fivo", "aesmc", "sequence-iwae", "reparam")


# every estimator on one pair of parts, every pair with one estimator, and the rest
@pytest.mark.parametrize(
    ("kind", "encoder", "name"),
    [
        pytest.param(*pair, name, marks=[pytest.mark.slow] * (name != "fivo" and pair != KINDS[0]))
        for pair in KINDS
        for name in ESTIMATORS
    ],
    ids=lambda p: getattr(p, "__name__", p),
)
def test_padding_never_changes_value_or_gradient(kind, encoder, name):
    from vbench.estimators.reparam import reparam

    net, x = model(kind, encoder)
    estimator = reparam(2) if name == "reparam" else vbench_estimators()[name](k=3)
    batch = ragged(x)
    expected = value_and_gradients(net, batch, estimator)
    garbage = batch._replace(x=torch.where(batch.mask, batch.x, math.nan))
    more = torch.full((6, 3, *x.shape[1:]), 5.0, dtype=torch.float64)
    longer = batch._replace(x=torch.cat([batch.x, more], 1), mask=torch.cat([batch.mask, more < 0], 1))
    for changed in (garbage, longer):
        for a, b in zip(value_and_gradients(net, changed, estimator), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    ignored = value_and_gradients(net, batch._replace(mask=None), estimator)
    assert not torch.allclose(ignored[0][1:], expected[0][1:])


@every
def test_a_sequence_is_worth_the_same_alone_and_beside_longer_ones(kind, encoder):
    net, x = model(kind, encoder)
    batch = ragged(x)
    z = net.posterior(batch).draw(Rng(1), 3).z
    for b, length in enumerate((5, 2, 4, 1, 3, 4)):
        one = Batch(batch.x[b : b + 1, :length], torch.arange(1))
        short = z[:, b : b + 1, :length]
        for whole, alone in (
            (net.log_joint(batch, z), net.log_joint(one, short)),
            (net.posterior(batch).log_prob(z), net.posterior(one).log_prob(short)),
        ):
            torch.testing.assert_close(whole[:, b], alone[:, 0], rtol=1e-10, atol=1e-12)


@every
def test_trajectories_carry_their_density_and_run_under_vmap(kind, encoder):
    net, x = model(kind, encoder)
    batch = ragged(x)
    draw = net.posterior(batch).draw(Rng(1), 3)
    assert draw.z.shape == (3, 6, T, LATENT)
    torch.testing.assert_close(draw.log_q, net.posterior(batch).log_prob(draw.z))
    estimator = vbench_estimators()["fivo"](k=2)
    gradients, lanes = vmap(gradient_function(net, estimator, batch), randomness="error")(keys(2))
    for lane, key in enumerate(keys(2)):
        net.zero_grad()
        made = estimator(net, batch, Rng(key))
        made.surrogate.mean().backward()
        torch.testing.assert_close(lanes[lane], made.value)
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(gradients[f"model.{name}"][lane], parameter.grad)


@every
def test_data_are_drawn_step_by_step(kind, encoder):
    net, x = model(kind, encoder)
    z = net.prior_density(None).draw(Rng(1), 4).z
    assert z.shape == (4, 1, T, LATENT)
    likelihood = net.likelihood(None, z)
    assert likelihood.sample(Rng(2)).shape == likelihood.mean.shape == (4, 1, *x.shape)
    assert torch.equal(likelihood.sample(Rng(2)), net.likelihood(None, z).sample(Rng(2)))


def test_filtering_sees_nothing_of_later_steps_and_smoothing_does():
    for encoder, later in ((FilteringEncoder, False), (SmoothingEncoder, True)):
        net, x = model("vrnn", encoder)
        batch = Batch(data(x), torch.arange(6))
        other = batch._replace(x=torch.cat([batch.x[:, :3], 1 - batch.x[:, 3:]], 1))
        a, b = (net.encoder.context(given)[:, :3] for given in (batch, other))
        assert torch.equal(a, b) != later


def test_the_recurrent_state_takes_in_latents_and_data():
    net, x = model("vrnn")
    batch = Batch(data(x), torch.arange(6))
    z = net.posterior(batch).draw(Rng(1), 1).z.detach()
    joint = net.log_joint(batch, z)
    moved = z.clone()
    moved[:, :, 0] += 1
    before, after = (net.likelihood(batch, one).mean for one in (z, moved))
    assert not torch.allclose(before[:, :, 4], after[:, :, 4])
    flipped = batch._replace(x=torch.cat([1 - batch.x[:, :1], batch.x[:, 1:]], 1))
    prior = [net.prior_density(given).log_prob(z) for given in (batch, flipped)]
    assert not torch.allclose(*prior)
    assert joint.isfinite().all()


def test_volatility_is_stationary_and_its_returns_have_its_variance():
    net, _ = model("volatility")
    with torch.no_grad():
        z = net.prior_density(None).draw(Rng(1), 40_000).z[:, 0]
        phi, scale = net.prior.raw_phi.tanh(), net.prior.log_scale.exp()
        expected = scale.square() / (1 - phi.square())
        for t in (0, T - 1):
            torch.testing.assert_close(z[:, t].var(0), expected, rtol=0.05, atol=0)
            assert ((z[:, t].mean(0) - net.prior.loc) / (expected / 40_000).sqrt()).abs().max() < 4.5
        fixed = z[:1, None].expand(40_000, 1, T, LATENT)
        x = net.likelihood(None, fixed).sample(Rng(2))[:, 0]
        torch.testing.assert_close(x.var(0), (2 * net.decoder.log_beta + z[0]).exp(), rtol=0.06, atol=0)


def test_the_mean_of_a_step_leaves_padding_out():
    rows = torch.zeros(2, 4, 2)
    rows[0, :3, 0], rows[1, 0, 1] = 1.0, 1.0
    torch.testing.assert_close(mean_of_step(rows), torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(mean_of_step((255 * rows).byte()), torch.tensor([0.75, 0.25]))


def test_what_is_no_sequence_is_refused_with_a_reason():
    flat = torch.zeros(3, 4)
    with pytest.raises(Incompatible, match="no sequences"):
        FilteringEncoder(Space((4,)), flat)
    with pytest.raises(Incompatible, match=r"real \[T, D\] is needed"):
        LinearGaussianChainPrior(Space((4,)))
    with pytest.raises(Incompatible, match="4 returns need as many latents a step, not 3"):
        StochasticVolatilityDecoder(Space((T, 4)), Z)
    with pytest.raises(Incompatible, match="needs steps"):
        build(
            dataset="digits",
            encoder="filtering[latent=4]",
            decoder="bernoulli",
            prior="standard-normal",
            estimator="reparam",
        )
    with pytest.raises(Incompatible, match="needs step-likelihood"):
        build(
            dataset="digits",
            encoder="filtering[latent=4]",
            decoder="bernoulli",
            prior="linear-gaussian-chain",
            estimator="fivo",
        )


def test_the_measures_of_the_core_see_whole_trajectories():
    net, x = model("vrnn", SmoothingEncoder)
    batch = ragged(x)
    found = {m.metric: m for m in diagnose(net, vbench_estimators()["fivo"](k=4), [batch], samples=200, key=1)} | {
        m.metric: m for m in log_likelihood(net, [batch], k=2000, key=1)
    }
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value)
    assert found["elbo"].value < found["bound"].value < found["log_likelihood"].value + 0.1
    # lengths alone tell most sequences apart: 1, 2, 3, 4, 4, 5
    assert found["mutual_information"].value >= math.log(6) - math.log(2) / 3 - 1e-9


@pytest.mark.parametrize("raw", [0.3, 1.5, 8.5, 12.0])
def test_volatility_near_a_unit_root_starts_where_double_precision_does(raw):
    def start(dtype):
        prior = StochasticVolatilityPrior(Z).to(dtype)
        prior.raw_phi.data.fill_(raw)
        _, scale = prior.start(1, None)
        (slope,) = torch.autograd.grad(scale.log().sum(), prior.raw_phi)
        return scale.double().detach(), slope.double()

    for single, double in zip(start(torch.float32), start(torch.float64), strict=True):
        torch.testing.assert_close(single, double, rtol=1e-5, atol=0)
    plain = math.exp(-1) / math.sqrt(1 - math.tanh(0.3) ** 2)
    assert raw != 0.3 or float(start(torch.float64)[0].flatten()[0]) == pytest.approx(plain)
