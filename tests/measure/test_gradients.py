import math

import pytest
import torch
from scipy import stats

from tests import toys
from tests.measure.toys import (
    FreeBernoulli,
    FreeNormal,
    PerfectlyPlain,
    expectation,
    zeros,
)
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import gradient_moments
from vbench.types import Estimate

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
    moments = gradient_moments(expectation(encoder, f), estimator, zeros(size), draws=8000, chunk=200)
    value, error = moments.variance["all"] * size, moments.std_error["all"] * size
    assert abs(value - exact) < 4 * error
    assert error < 0.1 * exact
    assert moments.variance == {"all": moments.variance["encoder"], "encoder": moments.variance["encoder"]}
    if signal is not None:  # d/dmu of E z^2 is 2 mu, d/dsigma 2 sigma: 4 + 4 in all
        assert moments.mean_square["all"] == pytest.approx(8, abs=4 * 2 * 8**0.5 * (exact / size / 8000) ** 0.5)


def test_signal_to_noise_is_unbiased_where_there_is_no_signal():
    model = expectation(FreeNormal(0.0, 1.0), lambda z, x: z.cos().mul(0))
    silent = gradient_moments(model, stl(), zeros(), draws=4)
    assert silent.variance["all"] == 0
    assert math.isnan(silent.snr["all"])
    noise = expectation(FreeNormal(0.0, 1.0), lambda z, x: torch.ones_like(z))  # E of a score is zero
    squares = [gradient_moments(noise, reinforce(), zeros(), draws=5, key=i, method="loop") for i in range(80)]
    values = torch.tensor([m.mean_square["all"] for m in squares], dtype=torch.float64)
    assert abs(values.mean()) < 4 * values.std() / 80**0.5
    unresolved = next(m for m in squares if m.mean_square["all"] < 0)
    assert math.isnan(unresolved.snr["all"])
    assert math.isnan(unresolved.relative_variance["all"])
    resolved = next(m for m in squares if m.mean_square["all"] > 0)
    assert resolved.snr["all"] ** -2 == pytest.approx(resolved.relative_variance["all"])


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


def test_an_estimator_is_measured_as_it_stands_and_its_own_gradient_is_left_out():
    model, batch, estimator = toys.binary(), toys.batch(), nvil(toys.X).double()
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.zero_()  # a baseline of zero is no baseline
    with_baseline = gradient_moments(model, estimator, batch, draws=10)
    assert with_baseline.variance == pytest.approx(gradient_moments(model, reinforce(), batch, draws=10).variance)


def test_wrong_calls_are_named():
    model, batch = toys.gaussian(), toys.batch()
    with pytest.raises(ValueError, match="'moment' is unknown, expected auto, moments, vmap, loop"):
        gradient_moments(model, iwae(2), batch, method="moment")
    with pytest.raises(ValueError, match="at least 2 draws, not 1"):
        gradient_moments(model, iwae(2), batch, draws=1)
    with pytest.raises(ValueError, match="chunk is at least 1, not 0"):
        gradient_moments(model, iwae(2), batch, chunk=0)
    with pytest.raises(ValueError, match="at least one batch"):
        gradient_measurements(model, iwae(2), [])


@pytest.mark.slow
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
