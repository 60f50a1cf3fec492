"""Grey pixels: probabilities that sum to one over all levels, dequantised values, and twins that fail."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from vbench import Batch, Incompatible, Rng, Space, build, sample
from vbench.batches import Order, TrainingBatches, binarize, fixed_batches
from vbench.builtin.datasets.digits import digits
from vbench.builtin.decoders.categorical import CategoricalDecoder, CategoricalLevels
from vbench.builtin.decoders.discretized_logistic import DiscretizedLogistic, DiscretizedLogisticDecoder
from vbench.grey import dequantized, on_levels, to_levels
from vbench.testing import Verdict, check

f64 = {"dtype": torch.float64}
DECODERS = {"categorical": CategoricalDecoder, "discretized-logistic": DiscretizedLogisticDecoder}


class NoEnds(DiscretizedLogistic):
    """What is below the lowest level and above the highest belongs to nobody, as in published code."""

    def log_prob(self, x, mask=None):
        step = 0.5 / (self.levels - 1)
        upper, lower = ((x + side - self.loc) / self.scale for side in (step, -step))
        return (upper.sigmoid() - lower.sigmoid()).log().flatten(2).sum(2)


def logistic(levels, family=DiscretizedLogistic):
    """One pixel each: wide, narrow, beyond both ends."""
    loc = torch.tensor([0.3, 0.71, -0.2, 1.3, 0.5], **f64)[None, :, None]
    scale = torch.tensor([0.2, 0.004, 0.3, 0.1, 3.0], **f64)[None, :, None]
    return family(loc, scale, levels)


def total(likelihood, levels, size):
    """The sum over all levels of one pixel, ``[B]``."""
    values = torch.linspace(0, 1, levels, **f64)
    return torch.stack([likelihood.log_prob(v.expand(size, 1))[0] for v in values]).logsumexp(0).exp()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_probabilities_sum_to_one_over_all_levels(levels):
    assert torch.allclose(total(logistic(levels), levels, 5), torch.ones(5, **f64), atol=1e-12)
    logits = torch.randn(1, 5, 1, levels, generator=torch.Generator().manual_seed(1), **f64)
    assert torch.allclose(total(CategoricalLevels(logits), levels, 5), torch.ones(5, **f64), atol=1e-12)


def test_without_the_ends_they_do_not():
    found = total(logistic(17, NoEnds), 17, 5)
    assert (found < 0.999).sum() >= 3
    inside = torch.full((5, 1), 8 / 16, **f64)
    wide = [0, 4]  # elsewhere the difference of sigmoids has lost its digits
    torch.testing.assert_close(logistic(17).log_prob(inside)[0, wide], logistic(17, NoEnds).log_prob(inside)[0, wide])


def test_a_level_s_probability_is_the_difference_of_distribution_functions():
    likelihood, levels = logistic(17), 17
    reference = stats.logistic(likelihood.loc[0, :, 0].numpy(), likelihood.scale[0, :, 0].numpy())
    for number in range(levels):
        low = -np.inf if number == 0 else (number - 0.5) / 16
        high = np.inf if number == levels - 1 else (number + 0.5) / 16
        found = likelihood.log_prob(torch.full((5, 1), number / 16, **f64))[0].exp().numpy()
        np.testing.assert_allclose(found, reference.cdf(high) - reference.cdf(low), atol=1e-12)


def test_far_away_levels_keep_value_and_slope_in_single_precision():
    loc = torch.full((1, 1, 1), 0.1, requires_grad=True)
    scale = torch.full((1, 1, 1), 0.001, requires_grad=True)
    log_p = DiscretizedLogistic(loc, scale, 256).log_prob(torch.full((1, 1), 200 / 255))
    exact = -(200 / 255 - 0.1) / 0.001 + 0.5 / 255 / 0.001 + math.log(1 - math.exp(-1 / 255 / 0.001))
    assert float(log_p.detach()) == pytest.approx(exact, rel=1e-4)
    slopes = torch.autograd.grad(log_p.sum(), (loc, scale))
    assert float(slopes[0]) == pytest.approx(1000, rel=1e-3)
    assert all(torch.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("made", [logistic(5), CategoricalLevels(torch.randn(1, 5, 1, 5, **f64) * 2)])
def test_draws_and_means_are_those_of_the_probabilities(made):
    values = torch.linspace(0, 1, 5, **f64)
    p = torch.stack([made.log_prob(v.expand(5, 1))[0] for v in values]).exp()  # [levels, B]
    torch.testing.assert_close(made.mean[0, :, 0], values @ p)
    count, rng = 4000, Rng(3)
    drawn = torch.stack([made.sample(rng)[0, :, 0] for _ in range(count)])
    seen = torch.stack([(drawn == v).double().mean(0) for v in values])
    torch.testing.assert_close(seen.sum(0), torch.ones(5, **f64))  # nothing but levels
    assert ((seen - p).abs() < 5 * (p * (1 - p) / count).sqrt() + 1e-3).all()


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_masks_and_transforms(name, dtype):
    x, z = Space((2, 3), "levels", levels=17), Space((2,))
    grey = torch.randint(0, 17, (9, 2, 3), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    given = {"data": (grey * 255 / 16).round().to(torch.uint8)}
    if name != "categorical":
        given = {"mean": grey.float().mean(0) / 16}
    decoder = DECODERS[name](x, z, hidden=(4,), **given).to(dtype)
    latent, data = torch.randn(7, 4, 2, dtype=dtype), (grey[:4] / 16).to(dtype)
    made = decoder(latent, None, None)
    assert made.sample(Rng(1)).shape == made.mean.shape == (7, 4, 2, 3)
    assert made.sample(Rng(1)).dtype == made.mean.dtype == made.log_prob(data).dtype == dtype
    assert made.log_prob(data).shape == (7, 4)
    seen = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(1)) > 0.4
    hidden = torch.where(seen, data, torch.nan)
    alone = [made.log_prob(data, functional.one_hot(torch.tensor(i), 6).view(1, 2, 3).bool()) for i in range(6)]
    parts = torch.stack(alone, -1).view(7, 4, 2, 3)
    torch.testing.assert_close(made.log_prob(hidden, seen), (parts * seen).flatten(2).sum(2))

    def loss(parameters, one, z):
        return functional_call(decoder, parameters, (z[:, None], None, None)).log_prob(one[None], None).mean()

    parameters = dict(decoder.named_parameters())
    lanes = vmap(grad(loss), in_dims=(None, 0, 1), randomness="error")(parameters, data, latent)
    whole = torch.autograd.grad(decoder(latent, None, None).log_prob(data).mean(), list(parameters.values()))
    for lane, g in zip(lanes.values(), whole, strict=True):
        torch.testing.assert_close(lane.mean(0), g, rtol=1e-4, atol=1e-6)


def test_the_bias_of_categorical_pixels_starts_at_what_was_seen():
    data = digits("levels")
    cell = build(
        **{"dataset": "digits[binarization=levels]", "encoder": "gaussian[latent=2,hidden=[4]]"},
        **{"decoder": "categorical[hidden=[]]", "prior": "standard-normal", "estimator": "reparam"},
    )
    shares = cell.model.likelihood(None, torch.zeros(1, 1, 2)).logits.softmax(-1)[0, 0, 3, 4]
    counts = torch.bincount(to_levels(data.train[:, 3, 4], 17).long(), minlength=17)
    torch.testing.assert_close(shares, (counts + 1) / (len(data.train) + 17))
    assert set((sample(cell, 3) * 16).flatten().tolist()) <= set(range(17))


def test_densities_of_levels_are_refused_and_levels_of_bits_too():
    def reason(dataset, decoder):
        given = {"encoder": "gaussian[latent=2]", "prior": "standard-normal", "estimator": "reparam"}
        try:
            build(dataset=dataset, decoder=decoder, **given)
        except Incompatible as why:
            return str(why)
        return ""

    for decoder in ("gaussian", "linear-gaussian"):
        assert "density of 17 levels grows without end" in reason("digits[binarization=levels]", decoder)
        assert not reason("digits[binarization=dequantized]", decoder)
    for decoder in DECODERS:
        assert "needs levels-data" in reason("digits", decoder)
        assert "needs levels-data" in reason("digits[binarization=dequantized]", decoder)
    assert "needs binary-data" in reason("digits[binarization=levels]", "bernoulli")


# ---- data


def test_levels_of_bytes():
    grey = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(grey, 256), grey)
    assert on_levels(grey, 256).all()
    assert int(on_levels(grey, 17).sum()) == 17
    data = digits("levels")
    assert on_levels(data.train, 17).all()
    assert data.x == Space((8, 8), "levels", levels=17)
    batch = next(fixed_batches(data, "test", 300, key=0, dtype=torch.float64))
    assert (batch.x * 16 == (batch.x * 16).round()).all()
    assert len(batch.x.unique()) == 17
    torch.testing.assert_close(binarize(data.test, "levels", Rng(0), torch.float64, 17), batch.x)


def test_dequantised_values_are_uniform_within_their_level():
    grey = torch.full((30_000,), 96, dtype=torch.uint8)  # level 6 of 17
    found = dequantized(grey, 17, seed=4).double().numpy() * 17
    assert 6 < found.min() < found.max() < 7
    assert stats.kstest(found - 6, "uniform").pvalue > 1e-6
    assert stats.kstest(dequantized(grey, 256, 4).double().numpy() * 256 - 96, "uniform").pvalue > 1e-6
    ends = dequantized(torch.tensor([0, 255] * 500, dtype=torch.uint8), 256, 1)
    assert 0 < ends.min() < ends.max() <= 1


def test_dequantised_data_are_new_in_training_and_fixed_in_evaluation_and_say_so():
    data = digits("dequantized")
    assert (data.x.support, data.x.levels) == ("unit", 17)
    assert f"{64 * math.log(17):.2f} nats bound" in data.notes
    assert digits("levels").notes == digits("dynamic").notes == ""
    whole = Order(1297, 1297, key=1)
    first, second = (TrainingBatches(data, 9, 0, whole)[step] for step in (0, 1))
    at = [torch.empty_like(b.x).index_copy_(0, b.index, b.x) for b in (first, second)]
    assert not torch.equal(*at)
    assert torch.equal(*((x * 17).floor() for x in at))
    assert torch.equal(TrainingBatches(data, 9, 0, whole)[1].x, second.x)
    one, other = (next(fixed_batches(digits("dequantized"), "test", 50, key=k)).x for k in (0, 1))
    assert torch.equal(one, other)


def test_the_density_of_dequantised_levels_bounds_their_probability():
    """E log p(x + u) less D log L is below log P(x), the integral over the level's cell; equal for a flat density."""
    levels = 17
    model = stats.norm(0.4, 0.15)
    edges = np.linspace(0, 1, levels + 1)
    probability = np.log(np.diff(model.cdf(edges)))
    noise = (np.arange(2000) + 0.5) / 2000
    density = model.logpdf((np.arange(levels)[:, None] + noise) / levels).mean(1) - math.log(levels)
    assert (density < probability).all()
    assert (density - probability).min() > -0.1


@pytest.mark.parametrize("name", DECODERS)
def test_judged(name):
    found = check("decoder", name)
    assert [f"{r.name}: {r.figure}" for r in found if r.verdict is not Verdict.PASS] == []
    assert any("levels" in r.name for r in found)


def test_the_judge_catches_missing_ends():
    class Twin(DiscretizedLogisticDecoder):
        """No ends.

        Source: nobody.
        """

        def forward(self, z, batch, model):
            made = super().forward(z, batch, model)
            return NoEnds(made.loc, made.scale, made.levels)

    failed = {r.name for r in check("decoder", Twin) if r.verdict is Verdict.FAIL}
    assert "normalised[levels, real latent]" in failed


def test_the_judge_catches_grey_that_is_not_levels():
    def twin():
        """Digits, told to have nine levels.

        Source: nobody.
        """
        return replace(digits("levels"), x=Space((8, 8), "levels", levels=9))

    failed = {r.name for r in check("dataset", twin) if r.verdict is Verdict.FAIL}
    assert failed == {"support"}


def test_noise_of_another_size_fails_the_bound():
    """The twin that adds noise twice as wide lands in the neighbours' cells."""
    x = torch.full((1000,), 96, dtype=torch.uint8)
    wrong = (to_levels(x, 17) + 2 * torch.rand(1000)) / 17
    assert not ((wrong * 17).floor() == 6).all()
    assert ((dequantized(x, 17, 0) * 17).floor() == 6).all()


def test_batches_of_any_stranger_need_no_levels():
    rows = torch.zeros(3, 2, dtype=torch.uint8)
    data = SimpleNamespace(train=rows, valid=rows, test=rows, x=Space((2,), "binary"), digest="a", binarization="fixed")
    assert isinstance(next(fixed_batches(data, "test", 3, key=0)), Batch)
