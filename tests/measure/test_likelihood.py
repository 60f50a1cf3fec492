import math

import pytest
import torch

from tests import toys
from tests.measure.toys import FreeNormal, Function, UnitNormal, batch_of, conjugate, value_of
from vbench import IWAE, Bernoulli, DiagonalNormal, Model, Rng, derive
from vbench.measure import sampling
from vbench.measure.exact import exact_likelihood, exact_log_evidence
from vbench.measure.likelihood import ladder, log_likelihood, log_likelihoods
from vbench.measure.measurement import Measurement, per_step
from vbench.oracles import conjugate as closed_form
from vbench.oracles import enumeration
from vbench.types import Batch, Draw

LOG_P = -1.6813114823


def thirteen_tenths(size=1):
    return batch_of(torch.full((size, 1), 1.3, dtype=torch.float64))


def assert_near(values, ess, exact, k):
    errors = (1 / ess - 1 / k).sqrt()
    assert ((values - exact).abs() < 4.5 * errors).all()
    assert errors.max() < 0.1


@pytest.mark.parametrize("build", [toys.binary, toys.categorical])
def test_enumerated_latents(build):
    values, ess = log_likelihoods(build(), [toys.batch()], k=4000, key=0)
    assert_near(values, ess, enumeration.log_evidence(build(), toys.batch()).detach(), 4000)


def test_linear_gaussian_evidence_by_a_broad_posterior():
    model, batch = toys.linear_gaussian(), toys.batch(binary=False)
    with torch.no_grad():
        model.encoder.net[-1].weight.zero_()
        model.encoder.net[-1].bias.zero_()  # q is the prior
    values, ess = log_likelihoods(model, [batch], k=20000, key=1)
    assert_near(values, ess, closed_form.log_evidence(model, batch).detach(), 20000)


def test_known_evidence_and_its_effective_sample_size():
    values, ess = log_likelihoods(conjugate(), [thirteen_tenths()], k=200_000, key=0)
    assert float(values) == pytest.approx(LOG_P, abs=4.5 * (0.4977818774 / 200_000) ** 0.5)
    assert float(ess) == pytest.approx(200_000 / 1.4977818774, rel=0.02)  # E w^2 / p^2, facts.md 4.4


def test_one_sample_is_the_sampled_elbo():
    values, ess = log_likelihoods(conjugate(), [thirteen_tenths(20_000)], k=1, key=0)
    assert float(values.mean()) == pytest.approx(-2.2704241762, abs=4.5 * float(values.std()) / 20_000**0.5)
    torch.testing.assert_close(ess, torch.ones_like(ess))
    rows = log_likelihood(conjugate(), [thirteen_tenths(3)], k=1, key=0)
    assert math.isnan(value_of(rows, "log_likelihood_mc_error").value)


def test_every_chunk_has_draws_of_its_own():
    _, ess = log_likelihoods(conjugate(), [thirteen_tenths()], k=50, key=0, chunk=1)
    assert float(ess) < 45  # 50, were the weights all the same


def test_chunks_are_weighed_as_one():
    """Known draws: a posterior that hands out a fixed sequence, however it is cut."""

    class Replay(FreeNormal):
        def forward(self, batch, model):
            q, place = super().forward(batch, model), [0]

            class Posterior:
                def draw(self, rng, k):
                    z = noise[place[0] : place[0] + k]
                    place[0] += k
                    return Draw(z, q.log_prob(z))

            return Posterior()

    noise = torch.randn(10, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = conjugate()
    model.encoder = Replay(0.2, 0.9**0.5)
    whole = log_likelihoods(model, [thirteen_tenths(2)], k=10, key=0, chunk=10)
    for chunk in (1, 3, 7):
        parts = log_likelihoods(model, [thirteen_tenths(2)], k=10, key=0, chunk=chunk)
        torch.testing.assert_close(parts, whole)


def test_monte_carlo_error_is_the_spread_over_keys():
    batches = [thirteen_tenths(3), thirteen_tenths(2)]
    runs = [log_likelihood(conjugate(), batches, k=100, key=key) for key in range(400)]
    means = torch.tensor([value_of(rows, "log_likelihood").value for rows in runs], dtype=torch.float64)
    claimed = torch.tensor([value_of(rows, "log_likelihood_mc_error").value for rows in runs])
    assert 0.88 < float(claimed.mean() / means.std()) < 1.12  # the spread of 400 is known to 3.5%


def test_error_over_data_covers_monte_carlo_too():
    rows = log_likelihood(toys.binary(), [toys.batch(size=4), toys.batch(size=3)], k=50, key=0)
    values, ess = log_likelihoods(toys.binary(), [toys.batch(size=4), toys.batch(size=3)], k=50, key=0)
    found = value_of(rows, "log_likelihood")
    assert found.value == float(values.mean())
    assert found.std_error == pytest.approx(float(values.std()) / 7**0.5)
    assert (found.n, found.unit) == (7, "nats")
    assert value_of(rows, "ess", "encoder").value == float(ess.mean())
    (single,) = [m for m in log_likelihood(conjugate(), [thirteen_tenths()], k=5, key=0) if m.metric == "ess"]
    assert single.std_error is None


def test_values_depend_on_key_and_batch_alone():
    def values(key, batches):
        return log_likelihoods(conjugate(), batches, k=5, key=key)[0]

    first = values(0, [thirteen_tenths()] * 2)
    assert torch.equal(first, values(0, iter([thirteen_tenths()] * 2)))
    assert first[0] != first[1]
    assert not torch.equal(first, values(1, [thirteen_tenths()] * 2))


def test_chunks_fit_the_budget_and_know_only_sizes(monkeypatch):
    batch = Batch(torch.zeros(100, 784), torch.arange(100))
    assert sampling.chunk_size(batch, 5000) == 10  # x 100 x 784 floats is 3.2 MB
    assert sampling.chunk_size(batch, 5) == 5
    monkeypatch.setattr(sampling, "_BUDGET", 1)
    assert sampling.chunk_size(batch, 5000) == 1
    sizes = []

    class Recorder:
        def draw(self, rng, k):
            sizes.append(k)
            return Draw(torch.zeros(k, 1, 1), None)

    list(sampling.draw_in_chunks(Recorder(), thirteen_tenths(), 7, "test", 0, 0, chunk=3))
    assert sizes == [3, 3, 1]


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="at least 1 sample, not 0"):
        log_likelihoods(conjugate(), [thirteen_tenths()], k=0, key=0)

    class Improper(FreeNormal):
        def forward(self, batch, model):
            q = super().forward(batch, model)

            class Posterior:
                def draw(self, rng, k):
                    return q.draw(rng, k)._replace(log_q=None)

            return Posterior()

    model = conjugate()
    model.encoder = Improper(0.2, 0.9)
    with pytest.raises(ValueError, match="this posterior gives none"):
        log_likelihoods(model, [thirteen_tenths()], k=2, key=0)
    with pytest.raises(ValueError, match="needs at least one batch"):
        log_likelihoods(model, [], k=2, key=0)


def test_no_graph_is_built_and_none_is_needed():
    values, _ = log_likelihoods(toys.gaussian(), [toys.batch()], k=3, key=0)
    assert not values.requires_grad

    class Slopes(FreeNormal):
        """Like a Hamiltonian posterior: differentiates while it draws."""

        def forward(self, batch, model):
            q = super().forward(batch, model)

            class Posterior:
                def draw(self, rng, k):
                    draw = q.draw(rng, k)
                    slope = torch.func.grad(lambda z: model.log_joint(batch, z).sum())(draw.z)
                    return draw._replace(info={"slope": slope})

            return Posterior()

    model = conjugate()
    model.encoder = Slopes(0.2, 0.9)
    log_likelihoods(model, [thirteen_tenths()], k=2, key=0)


def test_rungs_average_blocks_of_the_same_draws():
    batches = [toys.batch(size=4), toys.batch(size=3)]
    rungs, k_hat = ladder(toys.binary(), batches, k=[40, 1, 7], key=0)
    assert [rung.k for rung in rungs] == [1, 7, 40]
    values, ess = log_likelihoods(toys.binary(), batches, k=40, key=0)
    torch.testing.assert_close(rungs[2].values, values)
    torch.testing.assert_close(rungs[2].ess, ess)
    torch.testing.assert_close(rungs[2].mc_variance, 1 / ess - 1 / 40)
    assert len(k_hat) == 7
    draw = toys.binary().posterior(batches[0]).draw(Rng(derive("likelihood", 0, 0, 0)), 40)
    log_w = toys.binary().log_joint(batches[0], draw.z) - draw.log_q
    blocks = torch.stack([log_w[7 * i : 7 * i + 7].logsumexp(0) - math.log(7) for i in range(5)]).detach()
    torch.testing.assert_close(rungs[1].values[:4], blocks.mean(0))
    torch.testing.assert_close(rungs[1].mc_variance[:4], blocks.var(0) / 5)
    torch.testing.assert_close(rungs[0].values[:4], log_w.detach().mean(0))


def test_rungs_have_the_expectation_of_their_bound():
    """Enumerated: E of the bound of k samples, exactly, for each k."""
    model, batch = toys.binary(), toys.batch()
    rungs, _ = ladder(model, [batch], k=[1, 2, 5], key=3)
    many = [ladder(model, [batch], k=[1, 2, 5], key=key)[0] for key in range(400)]
    for place, rung in enumerate(rungs):
        exact = enumeration.bound_value(model, batch, IWAE(), rung.k).detach()
        values = torch.stack([found[place].values for found in many])
        assert ((values.mean(0) - exact).abs() < 4.5 * values.std(0) / 20).all(), rung.k
    means = torch.stack([found[0].values.mean() for found in many])
    claimed = torch.stack([found[0].mc_variance.sum().sqrt() / 5 for found in many])
    assert 0.8 < float(claimed.mean() / means.std()) < 1.2  # by five blocks of one


def rows_by_name(**settings):
    rows = log_likelihood(conjugate(), [thirteen_tenths(3)], key=0, **settings)
    return {row.metric: row for row in rows}


def test_each_rung_is_measured_under_its_own_name():
    found = rows_by_name(k=[1, 30, 300])
    whole = {row.metric: row.value for row in log_likelihood(conjugate(), [thirteen_tenths(3)], k=300, key=0)}
    assert whole.items() <= {name: row.value for name, row in found.items()}.items()
    assert found["log_likelihood[k=300]"].value == found["log_likelihood"].value
    assert found["log_likelihood"].values.mean() == found["log_likelihood"].value
    assert found["log_likelihood[k=300]"].values is None
    assert found["log_likelihood[k=1]"].value < found["log_likelihood[k=30]"].value < found["log_likelihood"].value
    assert found["log_likelihood_mc_error[k=1]"].value > found["log_likelihood_mc_error"].value > 0
    assert found["k_hat_share[k=1]"].value == 1  # one sample says nothing of log p(x)
    assert "log_likelihood_jackknife[k=1]" not in found
    assert {row.unit for name, row in found.items() if name.startswith("log_likelihood")} == {"nats"}
    assert "k_hat" not in rows_by_name(k=20)  # too few for a tail
    with pytest.raises(ValueError, match="at least 1 sample, not none"):
        ladder(conjugate(), [thirteen_tenths()], k=[], key=0)


def test_per_step_names_keep_their_rung():
    named = Measurement("log_likelihood[k=3]", "all", -4.0, None, 2, "nats")
    (found,) = per_step([named], [Batch(torch.zeros(2, 4, 1), torch.arange(2))])
    assert (found.metric, found.value) == ("log_likelihood_per_step[k=3]", -1.0)


def test_k_hat_tells_a_figure_that_is_wrong_from_one_that_is_right():
    """A posterior that is too narrow: nats are missing, the Monte Carlo error does not say so, k-hat does."""
    torch.manual_seed(2)
    decoder_weight = torch.randn(12, 8, dtype=torch.float64)
    noise = torch.full((12,), 0.5, dtype=torch.float64)
    numbers = closed_form.LinearGaussian(
        decoder_weight, torch.zeros(12).double(), noise, torch.zeros(8).double(), torch.ones(8).double()
    )
    x = torch.randn(60, 8, dtype=torch.float64) @ decoder_weight.T + 0.5 * torch.randn(60, 12, dtype=torch.float64)
    mean, covariance = numbers.posterior(x)
    found = {}
    for name, scale in (("narrow", torch.linalg.inv(covariance).diagonal() ** -0.5), ("wide", None)):

        class Fixed(FreeNormal):
            def forward(self, batch, model, scale=scale):
                if scale is None:
                    return Exact(mean[batch.index], 1.1 * torch.linalg.cholesky(covariance))
                return DiagonalNormal(mean[batch.index], scale.expand(len(batch.x), 8))

        class Affine(Function):
            def forward(self, z, batch, model):
                return DiagonalNormal(z @ decoder_weight.T, noise.expand(*z.shape[:2], 12))

        class Unit(UnitNormal):
            def forward(self, batch, model):
                return DiagonalNormal(torch.zeros(1, 8).double(), torch.ones(1, 8).double())

        model = Model(Fixed(0.0, 1.0), Affine(None), Unit())
        rows = log_likelihood(model, [Batch(x, torch.arange(60))], k=[100, 2000], key=1)
        found[name] = {row.metric: row.value for row in rows}
    exact = float(numbers.log_evidence(x).mean())
    short = {name: exact - rows["log_likelihood"] for name, rows in found.items()}
    errors = {name: rows["log_likelihood_mc_error"] for name, rows in found.items()}
    assert short["narrow"] > 0.1
    assert short["narrow"] > 4 * errors["narrow"]
    assert found["narrow"]["k_hat_share"] > 0.5
    assert abs(short["wide"]) < 3 * errors["wide"]
    assert found["wide"]["k_hat_share"] == 0
    assert abs(exact - found["wide"]["log_likelihood_jackknife[k=100]"]) < abs(
        exact - found["wide"]["log_likelihood[k=100]"]
    )


class Exact:
    """N(mean, factor factor'): the posterior itself, a little wider."""

    def __init__(self, mean, factor):
        self.normal = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
        self.factor = factor

    def draw(self, rng, k):
        noise = rng.normal(k, *self.normal.mean.shape, dtype=torch.float64)
        z = self.normal.mean + noise @ self.factor.T
        return Draw(z, self.normal.log_prob(z))


@pytest.mark.parametrize("build", [toys.binary, toys.categorical])
def test_finitely_many_latents_have_an_exact_answer(build):
    batches = [toys.batch(size=4), toys.batch(size=3)]
    values = exact_log_evidence(build(), batches)
    expected = torch.cat([enumeration.log_evidence(build(), batch) for batch in batches]).detach()
    torch.testing.assert_close(values, expected)
    (row,) = exact_likelihood(build(), batches)
    assert (row.metric, row.n, row.unit) == ("log_likelihood_exact", 7, "nats")
    assert row.value == pytest.approx(float(expected.mean()))


def test_what_is_summed_of_an_estimate_is_not_exact(monkeypatch):
    model, batches = toys.binary(), [toys.batch()]
    known = exact_log_evidence(model, batches)
    monkeypatch.setattr(Bernoulli, "estimated", False, raising=False)
    assert torch.equal(exact_log_evidence(model, batches), known)
    monkeypatch.setattr(Bernoulli, "estimated", True)
    assert exact_log_evidence(model, batches) is None
    assert exact_likelihood(model, batches) == []


def test_exact_answers_come_in_pieces_and_only_where_there_are_any(monkeypatch):
    from vbench.measure import exact

    whole = exact_log_evidence(toys.binary(), [toys.batch()])
    monkeypatch.setattr(exact, "_TERMS", 64)  # two data at a time
    torch.testing.assert_close(exact_log_evidence(toys.binary(), [toys.batch()]), whole)
    linear, real = toys.linear_gaussian(), toys.batch(binary=False)
    torch.testing.assert_close(
        exact_log_evidence(linear, [real]), closed_form.log_evidence(linear, real).detach().double()
    )
    assert exact_log_evidence(toys.gaussian(), [toys.batch()]) is None
    assert exact_log_evidence(toys.gaussian(prior="standard"), [toys.batch()]) is None
    assert exact_likelihood(toys.gaussian(), [toys.batch()]) == []
    monkeypatch.setattr(exact, "_STATES", 4)
    assert exact_log_evidence(toys.binary(), [toys.batch()]) is None
