import math

import pytest
import torch

from tests import toys
from tests.measure.toys import FreeNormal, batch_of, conjugate, value_of
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.reparam import reparam
from vbench.families import DiagonalNormal
from vbench.measure.diagnostics import AGGREGATE, DIAGNOSTICS, diagnose
from vbench.measure.information import aggregate_densities
from vbench.measure.measurement import MEASURES, Measurement
from vbench.model import Model
from vbench.types import Encoder, Space, Trait


def thirteen_tenths(size):
    return batch_of(torch.full((size, 1), 1.3, dtype=torch.float64))


def near(found, exact):
    return abs(found.value - exact) < 4.5 * found.std_error and found.std_error < 0.05


def test_known_elbo_rate_and_distortion():
    rows = diagnose(conjugate(), iwae(1), [thirteen_tenths(2000), thirteen_tenths(2000)], samples=4)
    assert near(value_of(rows, "elbo"), -2.2704241762)
    assert near(value_of(rows, "rate", "encoder"), 0.5 * (0.9 + 0.04 - 1 - math.log(0.9)))
    assert value_of(rows, "elbo").n == 4000


def test_elbo_is_rate_and_distortion():
    """Exactly for each datum, and so for a single one; their means agree to the last bits."""
    for size in (1, 5):
        rows = diagnose(toys.gaussian(), reparam(1), [toys.batch(size=size)], samples=3)
        rate, distortion = value_of(rows, "rate", "encoder"), value_of(rows, "distortion", "decoder")
        elbo = value_of(rows, "elbo").value
        assert elbo == pytest.approx(-(rate.value + distortion.value), rel=1e-14)
        assert size > 1 or elbo == -(rate.value + distortion.value)


def test_bound_is_the_estimators_own():
    batches = [thirteen_tenths(4000)]
    assert near(value_of(diagnose(conjugate(), reparam(1), batches, samples=2), "bound"), -2.2704241762)
    tight = value_of(diagnose(conjugate(), iwae(50), batches, samples=2, measures={"bound"}), "bound")
    assert near(tight, -1.6813114823 - 0.4977818774 / 100)  # log p less var(w) / (2 K p^2)
    assert value_of(diagnose(conjugate(), dreg(2), batches, samples=2), "bound").n == 4000


class CountsCalls(torch.nn.Module):
    k = 3
    calls = 0

    def forward(self, model, batch, rng):
        CountsCalls.calls += 1
        return reparam(3)(model, batch, rng)


def test_bound_spends_about_as_many_draws_as_the_rest():
    with torch.no_grad():  # estimators may differentiate all the same
        diagnose(conjugate(), CountsCalls(), [thirteen_tenths(2)], samples=16)
    assert CountsCalls.calls == 6


class Tracks(Encoder):
    """Unit scale, means x0, 0.05 x1 and a constant 3: one active unit of three."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.z, self.scale = Space((3,)), scale

    def forward(self, batch, model):
        x = batch.x
        loc = torch.stack([x[:, 0], 0.05 * x[:, 1], torch.full_like(x[:, 0], 3.0)], 1)
        return DiagonalNormal(loc, torch.full_like(loc, self.scale))


def tracks(scale=1.0):
    return Model(
        Tracks(scale),
        toys.BernoulliDecoder(Space((2,)), Space((3,)), torch.full((2,), 0.5)).double(),
        toys.NormalPrior(Space((3,))).double(),
    )


def normal_batches(count, size):
    generator = torch.Generator().manual_seed(0)
    return [batch_of(torch.randn(size, 2, generator=generator, dtype=torch.float64)) for _ in range(count)]


def test_active_units_are_counted_without_the_noise_of_the_draws():
    """With 50 draws the noise alone has variance 0.02, twice the threshold."""
    rows = diagnose(tracks(), reparam(1), normal_batches(4, 500), samples=50, measures={"active_units"})
    assert rows == [Measurement("active_units", "encoder", 1.0, None, 2000, "1")]
    narrow = diagnose(tracks(0.001), reparam(1), normal_batches(4, 500), samples=2, measures={"active_units"})
    assert narrow[0].value == 1


def test_active_units_are_not_resolved_by_one_draw_or_one_datum():
    for batches, samples in ((normal_batches(1, 5), 1), (normal_batches(1, 1), 5)):
        (row,) = diagnose(tracks(), reparam(1), batches, samples=samples, measures={"active_units"})
        assert math.isnan(row.value)


def clusters(means, scale):
    loc = torch.tensor(means, dtype=torch.float64)[:, None]
    posterior = DiagonalNormal(loc, torch.full_like(loc, scale))
    noise = torch.randn(loc.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return posterior, loc + scale * noise


def identity_information(groups, limit):
    own, aggregate = aggregate_densities(groups, limit)
    return own - aggregate


def test_mutual_information_of_clusters():
    posterior, z = clusters([0.0, 100.0] * 10, 1.0)
    terms = identity_information([(posterior, z)], 1000)
    torch.testing.assert_close(terms, torch.full_like(terms, math.log(2)))
    apart = identity_information([clusters([100.0 * i for i in range(8)], 1.0)], 1000)
    torch.testing.assert_close(apart, torch.full_like(apart, math.log(8)))  # the cap
    same = identity_information([clusters([5.0] * 8, 1.0)], 1000)
    torch.testing.assert_close(same, torch.zeros_like(same))


def test_mutual_information_pairs_data_across_batches():
    means = [0.0, 0.5, 2.0, -1.0, 3.0]
    posterior, z = clusters(means, 0.7)
    whole = identity_information([(posterior, z)], 1000)
    halves = [(DiagonalNormal(posterior.loc[s], posterior.scale[s]), z[s]) for s in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(identity_information(halves, 1000), whole)
    first = [(DiagonalNormal(posterior.loc[:3], posterior.scale[:3]), z[:3])]
    torch.testing.assert_close(identity_information(halves, 3), identity_information(first, 1000))
    pairs = torch.distributions.Normal(posterior.loc[:, 0], posterior.scale[:, 0]).log_prob(z)  # [draws, data]
    torch.testing.assert_close(whole, pairs.diagonal() - pairs.logsumexp(1) + math.log(5))


def pulled(batches, samples=1):
    return diagnose(tracks(0.5), reparam(1), batches, samples=samples, measures={*AGGREGATE, "rate"})


def test_information_and_aggregate_make_up_the_rate():
    """Exactly, of the same draws; and the cap is what the data can be told apart by at most."""
    rows = pulled(normal_batches(2, 30))
    rate, information, cap, kl = (value_of(rows, name, "encoder") for name in ("rate", *AGGREGATE))
    assert information.value + kl.value == pytest.approx(rate.value, rel=1e-12)
    assert (cap.value, cap.std_error, cap.n) == (math.log(60), None, 60)
    assert information.value < min(cap.value, rate.value)


def test_aggregate_kl_of_two_clusters(monkeypatch):
    """Against quadrature over the one latent that differs; the others add what two normals are apart."""
    x = torch.tensor([[1.5, 0.0], [-0.5, 0.0]], dtype=torch.float64).repeat(500, 1)
    z = torch.linspace(-6, 7, 20001, dtype=torch.float64)

    def normal(loc, scale):
        return torch.distributions.Normal(torch.tensor(loc, dtype=torch.float64), scale).log_prob(z)

    log_q = torch.stack([normal(1.5, 0.5), normal(-0.5, 0.5)]).logsumexp(0) - math.log(2)
    first = float(torch.trapezoid(log_q.exp() * (log_q - normal(0.0, 1.0)), z))
    exact = first + sum(0.5 * (0.25 + loc**2 - 1 - math.log(0.25)) for loc in (0.0, 3.0))
    found = value_of(pulled([batch_of(x)]), "aggregate_kl", "encoder")
    assert abs(found.value - exact) < 4 * found.std_error
    assert found.std_error < 0.1

    def without_its_mean(groups, limit):
        own, aggregate = aggregate_densities(groups, limit)
        return own, aggregate + math.log(2)

    monkeypatch.setattr("vbench.measure.diagnostics.aggregate_densities", without_its_mean)
    wrong = value_of(pulled([batch_of(x)]), "aggregate_kl", "encoder")
    assert abs(wrong.value - exact) > 6 * wrong.std_error


@pytest.mark.parametrize("build", [toys.gaussian, toys.binary, toys.categorical])
def test_every_measure_for_every_kind_of_latent(build):
    rows = diagnose(build(), CountsCalls() if build is not toys.gaussian else iwae(2), [toys.batch()] * 2)
    assert [m.metric for m in rows] == list(DIAGNOSTICS)
    assert all(math.isfinite(m.value) for m in rows)
    information = value_of(rows, "mutual_information", "encoder")
    assert information.n == 10
    assert -4 * information.std_error < information.value < math.log(10) + 4 * information.std_error
    assert rows == diagnose(build(), CountsCalls() if build is not toys.gaussian else iwae(2), [toys.batch()] * 2)


def test_a_posterior_without_log_q():
    class Improper(FreeNormal):
        def forward(self, batch, model):
            q = super().forward(batch, model)

            class Posterior:
                def draw(self, rng, k):
                    return q.draw(rng, k)._replace(log_q=None)

            return Posterior()

    model = conjugate()
    model.encoder = Improper(0.2, 0.9)
    (row,) = diagnose(model, reparam(1), [thirteen_tenths(2)], measures={"distortion"})
    assert math.isfinite(row.value)
    with pytest.raises(ValueError, match="this posterior gives none"):
        diagnose(model, reparam(1), [thirteen_tenths(2)], measures={"elbo"})


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="unknown measures kl; expected bound, elbo"):
        diagnose(conjugate(), iwae(2), [thirteen_tenths(1)], measures={"kl"})
    with pytest.raises(ValueError, match="at least one draw for each datum, not 0"):
        diagnose(conjugate(), iwae(2), [thirteen_tenths(1)], samples=0)
    with pytest.raises(ValueError, match="at least one batch"):
        diagnose(conjugate(), iwae(2), [])


def test_needs_are_declared_for_every_measure():
    assert set(DIAGNOSTICS) <= set(MEASURES)
    assert MEASURES["log_likelihood"] == {Trait.PROPER_WEIGHT}
    assert Trait.NORMALIZED in MEASURES["rate"]
    assert Trait.POSTERIOR in MEASURES["distortion"] & MEASURES["active_units"]
