import pytest
import torch

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
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import adapt, gradient_moments
from vbench.types import Space


def product(z, x):
    return z * x


def test_data_variance_is_unbiased():
    """f = z x: the gradient in mu is mean x, in sigma mean x eps; for x of 2 standard normals 1/2 and 0."""
    model, found, noise = expectation(FreeNormal(0.3, 1.0), product), [], []
    generator = torch.Generator().manual_seed(0)
    for key in range(90):
        batches = [batch_of(torch.randn(2, 1, generator=generator, dtype=torch.float64)) for _ in range(6)]
        rows = gradient_measurements(model, PerfectlyPlain(), batches, draws=2, key=key, method="loop")
        found.append(value_of(rows, "gradient_variance_data").value)
        noise.append(value_of(rows, "gradient_variance").value)
    values = torch.tensor(found, dtype=torch.float64)
    error = float(values.std() / 90**0.5)
    assert abs(values.mean() - 0.5) < 4 * error
    assert sum(noise) / 90 / 2 > 4 * error  # what would be left in without the correction


def test_binarization_is_told_from_subsampling():
    """f = z x again, x a bit: the gradient in mu is mean x. Its variance by bits is sum p (1 - p) / B^2."""
    model, p = expectation(FreeNormal(0.3, 1.0), product), torch.tensor([[0.2], [0.7], [0.5]], dtype=torch.float64)
    generator, found = torch.Generator().manual_seed(0), []
    for key in range(24):
        sets = [[batch_of(torch.bernoulli(p, generator=generator)) for _ in range(6)] for _ in range(2)]
        rows = gradient_measurements(model, PerfectlyPlain(), sets[0], draws=4, key=key, method="loop", again=sets[1])
        found.append(value_of(rows, "gradient_variance_binarization"))
    values = torch.tensor([m.value for m in found], dtype=torch.float64)
    wanted, error = float((p * (1 - p)).sum()) / 9, float(values.std() / 24**0.5)
    assert abs(float(values.mean()) - wanted) < 4 * error
    assert error < 0.2 * wanted
    told = torch.tensor([m.std_error for m in found], dtype=torch.float64)
    assert 0.7 < float(told.square().mean().sqrt() / values.std()) < 1.4
    same = gradient_measurements(model, PerfectlyPlain(), sets[0], draws=4, method="loop", again=sets[0])
    value = value_of(same, "gradient_variance_binarization")
    assert abs(value.value) < 0.2 * wanted, "the same bits again show no variance"


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
    data, share = value_of(rows, "gradient_variance_data"), value_of(rows, "noise_share")
    assert data.std_error > 0
    assert (snr.n, data.n, share.n) == (3, 3, 3), "their errors are the spread over batches"
    single = gradient_measurements(model, iwae(3), batches[:1], draws=10, key=5)
    assert not [m for m in single if m.metric == "gradient_variance_data"]
    double = gradient_measurements(model, iwae(3), batches[:2], draws=10, key=5)
    assert value_of(double, "gradient_variance_data").std_error is None
    again = gradient_measurements(model, iwae(3), batches, draws=10, key=5)
    assert [m for m in again if "work" not in m.metric] == [m for m in rows if "work" not in m.metric]


def test_the_error_over_batches_is_that_of_their_mean():
    model, batch = toys.gaussian(), toys.batch()
    rows = gradient_measurements(model, iwae(3), [batch] * 4, draws=400, method="vmap")
    four = value_of(rows, "gradient_variance")
    one = gradient_moments(model, iwae(3), batch, draws=1600, method="vmap")
    assert four.n == 1600
    assert four.std_error == pytest.approx(one.std_error["all"], rel=0.25)


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


def test_adaptation_leaves_no_state_in_the_model():
    class Watched(FreeBernoulli):
        calls = 0

        def forward(self, batch, model):
            self.calls += 1
            return super().forward(batch, model)

    model = expectation(Watched(0.7), lambda z, x: z)
    adapt(model, nvil(Space((1,))).double(), [zeros()] * 3, steps=3, key=0)
    gradient_moments(model, reinforce(), zeros(), draws=3)
    assert model.encoder.calls == 0


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
