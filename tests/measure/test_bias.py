"""Bias, error and cosine against targets whose answers are known exactly."""

import math

import pytest
import torch
from torch import nn

from tests import toys
from tests.gradients import replicate
from tests.measure.toys import value_of
from vbench.bounds import ELBO, IWAE
from vbench.builtin.encoders.bernoulli import BernoulliEncoder
from vbench.estimators.iwae import iwae
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.families import Bernoulli
from vbench.measure.accumulate import VectorMoments
from vbench.measure.bias import TargetSums
from vbench.measure.draws import trainable
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import gradient_moments
from vbench.measure.measurement import Measurement
from vbench.measure.truth import Truth, UnknownTargetError, bound_truth, evidence_truth, mean_truth
from vbench.oracles import conjugate, enumeration
from vbench.oracles.common import gradient
from vbench.types import Estimate

NOISE = Measurement("gradient_variance", "all", 2.0, 0.5, 7, "nats^2")


class Scaled(nn.Module):
    """c times another estimator's gradient: bias |c - 1| |g|, cosine 1."""

    def __init__(self, of, factor, bound=None):
        super().__init__()
        self.of, self.factor = of, factor
        self.k, self.needs, self.unbiased, self.bound = of.k, of.needs, True, bound

    def forward(self, model, batch, rng):
        estimate = self.of(model, batch, rng)
        return Estimate(estimate.value, self.factor * estimate.surrogate)


def flat(model, value):
    found = gradient(value, model)
    return torch.cat([found[name].flatten() for name in trainable(model)])


def held(estimator, truth, model=None, batches=None, **settings):
    model, batches = model or toys.binary(), batches or [toys.batch()]
    return gradient_measurements(model, estimator, batches, target=truth, **settings)


def own(estimator, model=None):
    model = model or toys.binary()
    return lambda number, batch: bound_truth(model, batch, estimator)


def near(found, wanted, errors=4):
    assert found.std_error is not None
    assert abs(found.value - wanted) < errors * found.std_error + 1e-9 * abs(wanted)
    return True


@pytest.mark.parametrize(("method", "draws"), [("moments", 300), ("vmap", 1000)])
def test_a_known_bias_is_found_and_a_wrong_one_is_not(method, draws):
    model, batches = toys.binary(), [toys.batch(), toys.batch(size=4)]
    slopes = [flat(model, enumeration.bound_value(model, batch, ELBO(), 1)) for batch in batches]
    length = float(torch.stack([g.square().sum() for g in slopes]).mean().sqrt())
    rows = held(Scaled(rloo(4), 1.5), own(rloo(4), model), model, batches, draws=draws, method=method)
    bias, mse, noise = (value_of(rows, name) for name in ("gradient_bias", "gradient_mse", "gradient_variance"))
    assert near(bias, 0.5 * length)
    assert bias.std_error < 0.12 * bias.value, "so that half or twice the bias would be seen"
    assert near(value_of(rows, "gradient_bias_squared"), 0.25 * length**2)
    assert near(value_of(rows, "gradient_cosine"), 1.0)
    assert near(mse, noise.value + 0.25 * length**2)
    assert near(value_of(rows, "gradient_relative_mse"), mse.value / length**2)
    size = model.encoder.net[-1].weight.numel() + model.encoder.net[-1].bias.numel()
    part = math.sqrt(sum(float(g[:size].square().sum()) for g in slopes) / 2)
    assert near(value_of(rows, "gradient_bias", "encoder"), 0.5 * part)


def drawn(model, estimator, trials, draws=20, blocks=10, seed=0):
    """Block means of independent trials, ``[trials, blocks, P]``."""
    found = replicate(model, estimator, toys.batch(), trials * draws, seed)
    rows = torch.cat([found.part(name) for name in ("encoder", "decoder", "prior")], 1)
    return rows.view(trials, blocks, draws // blocks, -1).mean(2)


def told(own, truths):
    found = []
    for blocks, truth in zip(own, truths, strict=True):
        sums = TargetSums()
        sums.add(blocks, truth, {})
        found.append(sums.measurements(NOISE))
    return found


def judged(found, wanted):
    """The squared bias is right on average; its error is that of the trials, or more (it is conservative)."""
    bias = [value_of(rows, "gradient_bias_squared") for rows in found]
    values, errors = (
        torch.tensor(v, dtype=torch.float64) for v in zip(*[(m.value, m.std_error) for m in bias], strict=True)
    )
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - wanted) < 4 * error
    assert 0.85 < float(errors.square().mean().sqrt() / values.std()) < 2
    return error


def test_an_unbiased_estimator_has_no_bias_on_average():
    """The plain square of the difference would be too large by variance / n; of 300 few look biased."""
    model = toys.binary()
    truth, own = bound_truth(model, toys.batch(), rloo(2)), drawn(model, rloo(2), 300)
    found = told(own, [truth] * 300)
    error = judged(found, 0.0)
    assert float((own.mean(1) - truth.blocks).square().sum(1).mean()) > 20 * error
    assert sum(not math.isnan(value_of(rows, "gradient_bias").value) for rows in found) < 0.05 * 300


def test_a_target_from_draws_has_an_error_of_its_own():
    """Its draws are few, and their noise is not taken for bias, nor for certainty."""
    model = toys.binary()
    length = float(bound_truth(model, toys.batch(), rloo(2)).blocks.norm())
    truths = [Truth(blocks, exact=False) for blocks in drawn(model, rloo(2), 160, seed=1)]
    judged(told(1.3 * drawn(model, rloo(4), 160), truths), 0.09 * length**2)
    cosines = [value_of(rows, "gradient_cosine") for rows in told(1.3 * drawn(model, rloo(4), 60, 100), truths[:60])]
    near = [abs(m.value - 1) < 2.26 * m.std_error for m in cosines if m.std_error is not None]
    assert sum(near) > 0.9 * 60


def test_the_bias_of_one_bound_for_another_is_their_distance():
    model, batch = toys.binary(), toys.batch()
    one, other = (flat(model, enumeration.bound_value(model, batch, b, 3)) for b in (ELBO(), IWAE()))
    assert torch.equal(bound_truth(model, batch, iwae(3)).blocks[0], other)
    rows = held(rloo(3), own(iwae(3), model), model, draws=2000, method="vmap")
    assert near(value_of(rows, "gradient_bias"), float((one - other).norm()))
    assert near(value_of(rows, "gradient_cosine"), float(one @ other / one.norm() / other.norm()))
    assert value_of(rows, "gradient_cosine").value < 1 - 4 * value_of(rows, "gradient_cosine").std_error


def test_evidence_of_a_linear_gaussian_model():
    model, batch = toys.linear_gaussian(), toys.batch(binary=False)
    elbo, evidence = (flat(model, f(model, batch)) for f in (conjugate.elbo, conjugate.log_evidence))
    assert torch.equal(evidence_truth(model, batch).blocks[0], evidence)
    rows = held(reparam(), lambda n, b: evidence_truth(model, b), model, [batch], draws=600)
    assert near(value_of(rows, "gradient_bias"), float((elbo - evidence).norm()))
    # log p(x) does not depend on the encoder: there is nothing to be relative to
    assert math.isnan(value_of(rows, "gradient_cosine", "encoder").value)
    assert math.isnan(value_of(rows, "gradient_relative_mse", "encoder").value)
    assert value_of(rows, "gradient_mse", "encoder").value > value_of(rows, "gradient_variance", "encoder").value


def test_evidence_of_discrete_latents():
    model, batch = toys.categorical(), toys.batch()
    wanted = flat(model, enumeration.log_evidence(model, batch))
    assert torch.equal(evidence_truth(model, batch).blocks[0], wanted)


def test_a_target_is_exact_where_it_can_be():
    model, batch = toys.binary(), toys.batch()
    truth = mean_truth(model, batch, iwae(2), 20, 0)
    assert truth.exact
    assert torch.equal(truth.blocks[0], flat(model, enumeration.bound_value(model, batch, IWAE(), 2)))
    drawn = mean_truth(toys.gaussian(), batch, iwae(2), 30, 0)
    assert not drawn.exact
    assert drawn.blocks.shape == (10, sum(p.numel() for p in toys.gaussian().parameters()))


def test_what_there_is_no_target_for():
    batch, biased = toys.batch(), Scaled(rloo(2), 2.0)
    biased.unbiased = False
    with pytest.raises(UnknownTargetError, match="calls itself biased"):
        mean_truth(toys.binary(), batch, biased, 20, 0)
    with pytest.raises(UnknownTargetError, match="declares no bound"):
        bound_truth(toys.binary(), batch, Scaled(rloo(2), 1.0))
    with pytest.raises(UnknownTargetError, match=r"no exact log p\(x\): BernoulliDecoder is not affine"):
        evidence_truth(toys.gaussian(prior="normal"), batch)
    with pytest.raises(UnknownTargetError, match=r"the closed form is the ELBO's, not that of IWAE\(.*\) at k=3"):
        bound_truth(toys.linear_gaussian(), toys.batch(binary=False), iwae(3))
    large = toys.binary()
    large.encoder = BernoulliEncoder(toys.X, 40, hidden=())
    with pytest.raises(UnknownTargetError, match="2\\^40 latent states are too many"):
        evidence_truth(large, batch)


def test_an_estimated_prior_has_no_exact_target(monkeypatch):
    model, batch = toys.binary(), toys.batch()
    monkeypatch.setattr(Bernoulli, "estimated", True, raising=False)
    with pytest.raises(UnknownTargetError, match=r"^no exact log p\(x\): the prior's density is an estimate$"):
        evidence_truth(model, batch)
    with pytest.raises(UnknownTargetError, match=r"^no exact gradient: the prior's density is an estimate$"):
        bound_truth(model, batch, iwae(2))
    assert not mean_truth(model, batch, iwae(2), 20, 0).exact


def test_an_unnormalised_posterior_has_no_exact_bound():
    model = toys.binary()

    class Doubled(Bernoulli):
        def log_prob(self, z):
            return super().log_prob(z) + math.log(2)

    class Wrong(BernoulliEncoder):
        def forward(self, batch, inner):
            return Doubled(super().forward(batch, inner).logits)

    model.encoder.__class__ = Wrong
    with pytest.raises(UnknownTargetError, match="do not sum to one"):
        bound_truth(model, toys.batch(), rloo(2))
    evidence_truth(model, toys.batch())


def test_known_vectors():
    """Two batches; without noise every figure is exact: |(3, 4) - (3, 0)|^2 and |(0, 2) - (0, 2)|^2."""
    sums = TargetSums()
    for mean, target in (((3.0, 4.0), (3.0, 0.0)), ((0.0, 2.0), (0.0, 2.0))):
        blocks = torch.tensor([mean] * 4, dtype=torch.float64)
        sums.add(blocks, Truth(torch.tensor([target], dtype=torch.float64), exact=True), {"encoder": slice(0, 1)})
    rows = sums.measurements(NOISE)
    wanted = {
        "gradient_bias_squared": 16 / 2,
        "gradient_bias": math.sqrt(16 / 2),
        "gradient_mse": 2 + 16 / 2,
        "gradient_relative_mse": (2 + 16 / 2) / ((9 + 4) / 2),
        "gradient_cosine": (9 + 4) / math.sqrt((25 + 4) * (9 + 4)),
    }
    assert {m.metric: m.value for m in rows} == pytest.approx(wanted)
    assert value_of(rows, "gradient_mse").std_error == pytest.approx(0.5)
    encoder = sums.measurements(NOISE._replace(part="encoder"))
    assert value_of(encoder, "gradient_cosine", "encoder").value == pytest.approx(1)
    assert math.isnan(value_of(encoder, "gradient_bias", "encoder").value)


def test_two_means_tell_no_error():
    sums = TargetSums()
    sums.add(torch.ones(2, 3).double(), Truth(torch.zeros(1, 3).double(), exact=True), {})
    rows = sums.measurements(NOISE)
    assert value_of(rows, "gradient_bias_squared") == Measurement(
        "gradient_bias_squared", "all", 3.0, None, 2, "nats^2"
    )
    assert math.isnan(value_of(rows, "gradient_bias").value)


def test_means_of_blocks():
    rows = torch.randn(23, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = VectorMoments({"a": slice(0, 5)}, blocks=4)
    moments.add(rows[:9])
    moments.add(rows[9:])
    assert torch.allclose(moments.block_means, torch.stack([rows[i::4].mean(0) for i in range(4)]))
    few = VectorMoments({"a": slice(0, 5)}, blocks=4)
    few.add(rows[:3])
    assert torch.allclose(few.block_means, rows[:3])


@pytest.mark.parametrize("method", ["moments", "vmap"])
def test_blocks_change_no_figure_of_the_draws(method):
    model, batch = toys.binary(), toys.batch(size=12)
    plain = gradient_moments(model, rloo(2), batch, draws=60, method=method)
    kept = gradient_moments(model, rloo(2), batch, draws=60, method=method, blocks=10)
    assert plain.blocks.numel() == 0
    assert kept.blocks.shape[0] == 10
    mean = torch.cat([m.flatten() for m in kept.mean.values()])
    assert torch.allclose(kept.blocks.mean(0), mean, rtol=1e-9)
    assert (kept.method, plain.method) == (method, method)
    if method == "vmap":
        assert kept == plain or kept.variance == plain.variance
