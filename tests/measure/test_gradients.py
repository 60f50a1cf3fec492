import gc
import math

import pytest
import torch
from scipy import stats
from torch import nn

from tests import toys
from tests.measure.toys import (
    FreeBernoulli,
    FreeNormal,
    PerfectlyPlain,
    batch_of,
    expectation,
    value_of,
    zeros,
)
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.estimators.renyi import renyi
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.measure.gradients import adapt, gradient_measurements, gradient_moments
from vbench.types import Estimate, Space

PHI, P0 = 0.7, 0.45


def square(z, x):
    return z**2


def cosine(z, x):
    return z.cos()


def bits(z, x):
    return (z - P0) ** 2


# facts.md 4.1 and 4.2: the sum over (mu, sigma), or the logit, for one datum
EXACT = [
    pytest.param(FreeNormal(1.0, 1.0), square, stl(), 4 + 12, 20, id="square-pathwise"),
    pytest.param(FreeNormal(1.0, 1.0), square, reinforce(), 30 + 136, 20, id="square-score"),
    pytest.param(FreeNormal(1.0, 1.0), cosine, stl(), 0.267674 + 0.308127, None, id="cosine-pathwise"),
    pytest.param(FreeNormal(1.0, 1.0), cosine, reinforce(), 0.323993 + 0.836287, None, id="cosine-score"),
    pytest.param(FreeBernoulli(PHI), bits, reinforce(), 1.2315e-2, None, id="bits-score"),
    pytest.param(FreeBernoulli(PHI), bits, rloo(2), 6.170e-4, None, id="bits-leave-one-out"),
]


@pytest.mark.parametrize(("encoder", "f", "estimator", "exact", "signal"), EXACT)
def test_variance_is_the_known_one(encoder, f, estimator, exact, signal):
    size = 5  # data with independent draws: the mean's variance is a fifth
    moments = gradient_moments(expectation(encoder, f), estimator, zeros(size), draws=4000, chunk=200)
    value, error = moments.variance["all"] * size, moments.std_error["all"] * size
    assert abs(value - exact) < 4 * error
    assert error < 0.1 * exact
    assert moments.variance == {"all": moments.variance["encoder"], "encoder": moments.variance["encoder"]}
    if signal is not None:  # d/dmu of E z^2 is 2 mu, d/dsigma 2 sigma: 4 + 4 in all
        assert moments.mean_square["all"] == pytest.approx(
            8, abs=4 * 2 * 8**0.5 * (exact / size / 4000) ** 0.5
        )


def test_signal_to_noise_is_unbiased_where_there_is_no_signal():
    model = expectation(FreeNormal(0.0, 1.0), lambda z, x: z.cos().mul(0))
    silent = gradient_moments(model, stl(), zeros(), draws=4)
    assert silent.variance["all"] == 0
    assert math.isnan(silent.snr["all"])
    noise = expectation(FreeNormal(0.0, 1.0), lambda z, x: torch.ones_like(z))  # E of a score is zero
    squares = [
        gradient_moments(noise, reinforce(), zeros(), draws=5, key=i, method="loop") for i in range(300)
    ]
    values = torch.tensor([m.mean_square["all"] for m in squares], dtype=torch.float64)
    assert abs(values.mean()) < 4 * values.std() / 300**0.5
    unresolved = next(m for m in squares if m.mean_square["all"] < 0)
    assert math.isnan(unresolved.snr["all"])
    assert math.isnan(unresolved.relative_variance["all"])
    resolved = next(m for m in squares if m.mean_square["all"] > 0)
    assert resolved.snr["all"] ** -2 == pytest.approx(resolved.relative_variance["all"])


BUILT_IN = {
    "reparam": (reparam(2), toys.gaussian),
    "reparam-analytic": (reparam(2, "analytic"), lambda: toys.gaussian(prior="standard")),
    "iwae": (iwae(3), toys.gaussian),
    "iwae-vamp": (iwae(3), lambda: toys.gaussian(prior="vamp")),
    "renyi": (renyi(0.5, 3), toys.gaussian),
    "stl": (stl(2), toys.gaussian),
    "dreg": (dreg(3), toys.gaussian),
    "reinforce": (reinforce(2), toys.binary),
    "nvil": (nvil(toys.X, 2, hidden=4), toys.binary),
    "nvil-normalized": (nvil(toys.X, 2, hidden=4, normalize=True), toys.binary),
    "rloo": (rloo(3), toys.categorical),
    "vimco": (vimco(3), toys.binary),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_vmap_and_loop_make_the_same_draws(name):
    estimator, build = BUILT_IN[name]
    model, batch = build(), toys.batch()
    estimator.double()
    loop = gradient_moments(model, estimator, batch, draws=20, key=3, method="loop")
    auto = gradient_moments(model, estimator, batch, draws=20, key=3)
    assert (loop.method, auto.method) == ("loop", "vmap")
    assert auto.variance == pytest.approx(loop.variance, rel=1e-9)
    assert auto.std_error == pytest.approx(loop.std_error, rel=1e-9)
    torch.testing.assert_close(auto.mean, loop.mean)
    for chunk in (1, 7):
        vmap = gradient_moments(model, estimator, batch, draws=20, key=3, method="vmap", chunk=chunk)
        assert vmap.variance == pytest.approx(loop.variance, rel=1e-9)
    other = gradient_moments(model, estimator, batch, draws=20, key=4)
    assert other.variance["all"] != pytest.approx(loop.variance["all"], rel=1e-6)


def test_parts_add_up_and_one_without_parameters_is_left_out():
    moments = gradient_moments(toys.gaussian(), iwae(2), toys.batch(), draws=10)
    parts = ("encoder", "decoder", "prior")
    assert set(moments.variance) == set(moments.snr) == {"all", *parts}
    assert moments.variance["all"] == pytest.approx(sum(moments.variance[p] for p in parts))
    assert moments.mean_square["all"] == pytest.approx(sum(moments.mean_square[p] for p in parts))
    model = toys.gaussian(prior="standard")
    model.encoder.requires_grad_(False)
    assert set(gradient_moments(model, iwae(2), toys.batch(), draws=4).variance) == {"all", "decoder"}
    with pytest.raises(ValueError, match="no trainable parameter"):
        gradient_moments(model.requires_grad_(False), iwae(2), toys.batch())


def test_single_precision_and_scalar_surrogates():
    class Coupled(PerfectlyPlain):
        def forward(self, model, batch, rng):
            estimate = super().forward(model, batch, rng)
            return Estimate(estimate.value, estimate.surrogate.mean())

    model, batch = toys.gaussian(), toys.batch()
    separate = gradient_moments(model, PerfectlyPlain(), batch, draws=10)
    coupled = gradient_moments(model, Coupled(), batch, draws=10)
    assert coupled.variance == separate.variance
    single = batch._replace(x=batch.x.float())
    moments = gradient_moments(model.float(), PerfectlyPlain(), single, draws=10)
    assert all(mean.dtype == torch.float64 for mean in moments.mean.values())
    assert moments.method == "vmap"


class Counts(PerfectlyPlain):
    """Hidden state: every call weighs more than the last."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, model, batch, rng):
        self.calls += 1
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, self.calls * surrogate)


class Reads(PerfectlyPlain):
    """Looks at a number, which no vmap allows."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate * (2.0 if value.mean().item() < 0 else 1.0))


class Remembers(PerfectlyPlain):
    """Keeps a tensor of its last call: after a vmap that would be a dead one."""

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        surrogate = surrogate - 0.01 * self.last * surrogate
        self.last = value.mean()
        return Estimate(value, surrogate)


class OwnNoise(PerfectlyPlain):
    """Leaves the given randomness aside."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate * torch.rand(()))


class Holds(PerfectlyPlain):
    """Reaches parameters past the model that it is given: a vmap does not see them move."""

    def __init__(self):
        super().__init__()
        self.held = []

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate - sum(weight.square().sum() for weight in self.held))


@pytest.mark.parametrize("misbehaving", [Counts, Reads, Remembers, Holds])
def test_auto_falls_back_to_the_loop(misbehaving):
    model, batch = toys.gaussian(), toys.batch()
    estimator = misbehaving()
    if misbehaving is Holds:
        estimator.held = list(model.parameters())
    auto = gradient_moments(model, estimator, batch, draws=10)
    loop = gradient_moments(model, estimator, batch, draws=10, method="loop")
    assert auto.method == "loop"
    assert auto.variance == loop.variance
    assert getattr(estimator, "calls", 0) == 0  # a copy was measured


def test_global_randomness_is_no_reason_to_believe_a_vmap():
    assert gradient_moments(toys.gaussian(), OwnNoise(), toys.batch(), draws=4).method == "loop"


def test_vmap_when_asked_for_says_what_went_wrong():
    with pytest.raises(RuntimeError, match="item"):
        gradient_moments(toys.gaussian(), Reads(), toys.batch(), draws=4, method="vmap")


def test_large_draws_are_looped_and_small_ones_are_not():
    class Wide(PerfectlyPlain):
        evaluations = 10**7

    assert gradient_moments(toys.gaussian(), Wide(), toys.batch(), draws=2).method == "loop"


def test_nothing_changes_in_what_was_measured():
    model, estimator, batch = toys.binary(), nvil(toys.X).double(), toys.batch()
    model.eval()
    model.decoder.train()
    next(model.parameters()).grad = marker = torch.ones_like(next(model.parameters()))
    before = {name: p.clone() for name, p in [*model.named_parameters(), *estimator.named_parameters()]}
    random = torch.random.get_rng_state()
    gradient_moments(model, estimator, batch, draws=4)
    gradient_moments(model, estimator, batch, draws=4, method="loop")
    after = dict([*model.named_parameters(), *estimator.named_parameters()])
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in after.values())
    assert next(model.parameters()).grad is marker
    assert all(p.grad is None for p in [*model.parameters()][1:])
    assert (model.training, model.encoder.training, model.decoder.training) == (False, False, True)
    assert torch.equal(random, torch.random.get_rng_state())


def test_an_estimator_is_measured_as_it_stands_and_its_own_gradient_is_left_out():
    model, batch, estimator = toys.binary(), toys.batch(), nvil(toys.X).double()
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.zero_()  # a baseline of zero is no baseline
    with_baseline = gradient_moments(model, estimator, batch, draws=10)
    assert with_baseline.variance == pytest.approx(
        gradient_moments(model, reinforce(), batch, draws=10).variance
    )


def test_wrong_calls_are_named():
    model, batch = toys.gaussian(), toys.batch()
    with pytest.raises(ValueError, match="'moment' is unknown, expected auto, vmap, loop"):
        gradient_moments(model, iwae(2), batch, method="moment")
    with pytest.raises(ValueError, match="at least 2 draws, not 1"):
        gradient_moments(model, iwae(2), batch, draws=1)
    with pytest.raises(ValueError, match="chunk is at least 1, not 0"):
        gradient_moments(model, iwae(2), batch, chunk=0)
    with pytest.raises(ValueError, match="at least one batch"):
        gradient_measurements(model, iwae(2), [])


class Weighs(PerfectlyPlain):
    """Notes how many bytes of tensors are alive at two of its calls."""

    seen: dict[int, int] = {}  # noqa: RUF012 - shared by the copies that are measured
    calls = 0

    def forward(self, model, batch, rng):
        Weighs.calls += 1
        if Weighs.calls in (40, 400):
            alive = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self.tensors()}
            Weighs.seen[Weighs.calls] = sum(alive.values())
        return super().forward(model, batch, rng)

    @staticmethod
    def tensors():
        return [o for o in gc.get_objects() if type(o) in (torch.Tensor, nn.Parameter)]


def test_memory_is_flat_in_the_number_of_draws():
    x = Space((300,), "binary")
    encoder = toys.GaussianEncoder(x, 2, hidden=(20,))
    model = toys.Model(
        encoder,
        toys.BernoulliDecoder(x, encoder.z, torch.full((300,), 0.5), hidden=()),
        toys.StandardNormalPrior(encoder.z),
    )
    size = 8 * sum(p.numel() for p in model.parameters())
    gradient_moments(model, Weighs(), batch_of(torch.ones(2, 300)), draws=420, method="loop")
    assert Weighs.seen[400] - Weighs.seen[40] < size < Weighs.seen[40]


def test_interval_covers():
    size, exact = 8, (4 + 12) / 8
    model, batch = expectation(FreeNormal(1.0, 1.0), square), zeros(size)
    t = stats.t.ppf(0.975, 99)
    inside = 0
    for key in range(200):
        moments = gradient_moments(model, stl(), batch, draws=100, key=key, method="vmap", chunk=100)
        width = t * moments.std_error["all"] / moments.variance["all"]
        inside += abs(math.log(moments.variance["all"] / exact)) < width
    assert 0.90 <= inside / 200 <= 0.99


def product(z, x):
    return z * x


def test_data_variance_is_unbiased():
    """f = z x: the gradient in mu is mean x, in sigma mean x eps; for x of 2 standard normals 1/2 and 0."""
    model, found, noise = expectation(FreeNormal(0.3, 1.0), product), [], []
    generator = torch.Generator().manual_seed(0)
    for key in range(150):
        batches = [batch_of(torch.randn(2, 1, generator=generator, dtype=torch.float64)) for _ in range(6)]
        rows = gradient_measurements(model, stl(), batches, draws=2, key=key, method="loop")
        found.append(value_of(rows, "gradient_variance_data").value)
        noise.append(value_of(rows, "gradient_variance").value)
    values = torch.tensor(found, dtype=torch.float64)
    error = float(values.std() / 150**0.5)
    assert abs(values.mean() - 0.5) < 4 * error
    assert sum(noise) / 150 / 2 > 6 * error  # what would be left in without the correction


def test_measurements_over_batches():
    model, batches = toys.gaussian(), [toys.batch(), toys.batch(size=3), toys.batch(size=4)]
    rows = gradient_measurements(model, iwae(3), iter(batches), draws=10, key=5)
    assert {m.part for m in rows if m.metric == "gradient_variance"} == {"all", "encoder", "decoder", "prior"}
    assert value_of(rows, "function_evaluations").value == 3
    noise = value_of(rows, "gradient_variance", "encoder")
    assert (noise.n, noise.unit) == (30, "nats^2")
    work = value_of(rows, "work_normalized_variance", "encoder")
    assert 0 < work.value / noise.value < 1  # seconds of one gradient
    assert work.std_error / work.value == pytest.approx(noise.std_error / noise.value)
    snr, relative = value_of(rows, "gradient_snr"), value_of(rows, "gradient_relative_variance")
    assert snr.value**-2 == pytest.approx(relative.value)
    norm, total = value_of(rows, "gradient_norm"), value_of(rows, "gradient_variance")
    assert total.value / norm.value**2 == pytest.approx(relative.value)
    assert value_of(rows, "gradient_variance_data").std_error > 0
    single = gradient_measurements(model, iwae(3), batches[:1], draws=10, key=5)
    assert not [m for m in single if m.metric == "gradient_variance_data"]
    double = gradient_measurements(model, iwae(3), batches[:2], draws=10, key=5)
    assert value_of(double, "gradient_variance_data").std_error is None
    again = gradient_measurements(model, iwae(3), batches, draws=10, key=5)
    assert [m for m in again if "work" not in m.metric] == [m for m in rows if "work" not in m.metric]


def test_two_batches_alike_have_draws_of_their_own():
    rows = gradient_measurements(toys.gaussian(), iwae(3), [toys.batch()] * 2, draws=50, key=0)
    noise, data = value_of(rows, "gradient_variance"), value_of(rows, "gradient_variance_data")
    assert data.value != pytest.approx(-noise.value / 50)  # which the same draws twice would give


def test_adaptation_moves_the_estimator_alone_and_helps():
    model, batch, estimator = toys.binary(), toys.batch(), nvil(toys.X, lr=0.02).double()
    before = {name: p.clone() for name, p in model.named_parameters()}
    parameter = next(estimator.parameters())
    parameter.grad = marker = torch.ones_like(parameter)
    noise = gradient_moments(model, estimator, batch, draws=200).variance["encoder"]
    adapt(model, estimator, [batch] * 500, steps=300, key=0)
    assert gradient_moments(model, estimator, batch, draws=200).variance["encoder"] < 0.5 * noise
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in model.named_parameters())
    assert parameter.grad is marker


def test_adaptation_is_a_function_of_its_key_and_stops_with_the_batches():
    def adapted(key, batches):
        torch.manual_seed(0)
        estimator = nvil(toys.X).double()
        adapt(toys.binary(), estimator, batches, steps=5, key=key)
        return torch.cat([p.detach().flatten() for p in estimator.parameters()])

    four = [toys.batch()] * 4
    assert torch.equal(adapted(1, four), adapted(1, iter(four)))
    assert not torch.equal(adapted(1, four), adapted(2, four))
    assert not torch.equal(adapted(1, four), adapted(1, four[:3]))


def test_nothing_to_adapt_takes_no_batch():
    def unwanted():
        raise AssertionError("a batch was taken")
        yield

    adapt(toys.gaussian(), iwae(2), unwanted(), steps=3, key=0)
