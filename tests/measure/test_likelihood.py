import math

import pytest
import torch

from tests import toys
from tests.measure.toys import FreeNormal, batch_of, conjugate, value_of
from vbench.measure import sampling
from vbench.measure.likelihood import log_likelihood, log_likelihoods
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
