"""Minibatches: exact bits, orders without replacement, and everything a function of keys and steps."""

import gc
import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chi2

from vbench import batches
from vbench.batches import Order, TrainingBatches, binarize, fixed_batches
from vbench.rng import Rng
from vbench.types import Dataset, Space

LIMIT = 1e-6  # a correct draw fails with this probability; seeds are fixed
MODES = ["dynamic", "fixed", "threshold", "none"]


@dataclass
class Data:
    train: torch.Tensor
    valid: torch.Tensor
    test: torch.Tensor
    binarization: str = "dynamic"
    digest: str = "a"
    x: Space = field(default_factory=lambda: Space((5, 7), "binary"))
    masks: dict = field(default_factory=dict)


def make(binarization="dynamic", digest="a", rows=(23, 6, 11), masks=False):
    generator = torch.Generator().manual_seed(0)
    splits = [torch.randint(0, 256, (n, 5, 7), generator=generator, dtype=torch.uint8) for n in rows]
    observed = {name: x > 64 for name, x in zip(("train", "valid", "test"), splits, strict=True) if masks is not False}
    return Data(*splits, binarization=binarization, digest=digest, masks=observed)


def same(a, b):
    return all(torch.equal(p, q) if isinstance(p, torch.Tensor) else p == q for p, q in zip(a, b, strict=True))


def statistic(ones, draws, probability):
    return ((ones - draws * probability) ** 2 / (draws * probability * (1 - probability))).sum()


@pytest.mark.parametrize("mode", ["dynamic", "fixed"])
def test_bits_have_probability_x_over_255_exactly(mode):
    draws = 20_000
    x = torch.arange(256, dtype=torch.uint8).expand(draws, 256).contiguous()
    ones = binarize(x, mode, Rng(1), torch.float64).sum(0)
    assert ones[0] == 0
    assert ones[255] == draws
    grey = torch.arange(1, 255, dtype=torch.float64)
    threshold = chi2.ppf(1 - LIMIT, len(grey))
    assert statistic(ones[1:255], draws, grey / 255) < threshold
    assert statistic(ones[1:255], draws, grey / 256) > threshold  # the test can tell the usual shortcut apart


def test_uniform_bytes_are_uniform_on_0_to_254():
    draws = 255 * 20_000
    counts = torch.from_numpy(batches._uniform(draws, seed=2)).bincount(minlength=256)
    assert counts[255] == 0
    expected = draws / 255
    assert ((counts[:255] - expected) ** 2 / expected).sum() < chi2.ppf(1 - LIMIT, 254)


def test_bits_of_neighbouring_pixels_and_steps_are_uncorrelated():
    data = make(rows=(400, 1, 1))
    data.train.fill_(100)
    order = Order(400, 400, key=0)
    first, second = (TrainingBatches(data, 9, 0, order)[step].x - 100 / 255 for step in (0, 1))
    for a, b in ((first[..., 1:], first[..., :-1]), (first[1:], first[:-1]), (first, second)):
        correlation = (a * b).mean() / (100 / 255 * 155 / 255)
        assert abs(correlation) * a.numel() ** 0.5 < 5


def test_fixed_bits_stay_what_they_were():
    x = torch.arange(256, dtype=torch.uint8).expand(10, 256)
    bits = binarize(x, "fixed", Rng(1)).to(torch.uint8)
    assert hashlib.sha256(bits.numpy().tobytes()).hexdigest()[:16] == "2770e629da4b7dcf"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 255])
def test_any_number_of_pixels(count):
    assert binarize(torch.full((count,), 255, dtype=torch.uint8), "dynamic", Rng(0)).sum() == count


def test_threshold_and_none_use_no_randomness():
    x = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(binarize(x, "threshold", Rng(0)), (torch.arange(256) >= 128).float())
    assert torch.equal(binarize(x, "none", Rng(0), torch.float64), torch.arange(256, dtype=torch.float64) / 255)
    floats = torch.tensor([-1.5, 3.0], dtype=torch.float64)
    assert torch.equal(binarize(floats, "none", Rng(0), torch.float64), floats)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_dtype_and_shape(mode, dtype):
    x = make().train
    drawn = binarize(x, mode, Rng(0), dtype)
    assert drawn.dtype == dtype
    assert drawn.shape == x.shape
    assert binarize(x, mode, Rng(0)).dtype == torch.get_default_dtype()


def test_binarize_is_a_function_of_the_key():
    x = make().train
    assert torch.equal(binarize(x, "dynamic", Rng(3)), binarize(x, "dynamic", Rng(3)))
    assert not torch.equal(binarize(x, "dynamic", Rng(3)), binarize(x, "dynamic", Rng(4)))
    rng = Rng(3)
    assert not torch.equal(binarize(x, "dynamic", rng), binarize(x, "dynamic", rng))


@pytest.mark.parametrize(
    ("x", "mode", "message"),
    [
        (torch.zeros(3), "dynamic", "needs bytes"),
        (torch.zeros(3), "threshold", "needs bytes"),
        (torch.zeros(3, dtype=torch.uint8), "dither", "'dither' is unknown"),
    ],
)
def test_what_cannot_be_binarised_is_refused(x, mode, message):
    with pytest.raises(ValueError, match=message):
        binarize(x, mode, Rng(0))


@pytest.mark.parametrize("mode", MODES)
def test_training_batches_are_functions_of_key_and_step(mode):
    data, steps = make(mode), range(40)  # more than are prepared together
    assert TrainingBatches(data, 40, 8, Order(23, 5, key=1))._together < 40
    batches = TrainingBatches(data, 40, 8, Order(23, 5, key=1))
    forward = [batches[step] for step in steps]
    backward = [TrainingBatches(data, 40, 8, Order(23, 5, key=1))[step] for step in reversed(steps)]
    assert all(same(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert [batch.progress for batch in forward] == [step / 40 for step in steps]
    order = Order(23, 5, key=1)
    assert all(torch.equal(forward[step].index, order.indices(step)) for step in steps)
    if mode != "dynamic":
        whole = torch.cat([batch.x for batch in fixed_batches(data, "train", 23, key=0)])
        assert all(torch.equal(batch.x, whole[batch.index]) for batch in forward)
    assert len({int(batch.key) for batch in forward}) == 40


@pytest.mark.parametrize("rows", [1, 200, 5000])
def test_how_many_steps_are_prepared_together_knows_only_sizes(rows):
    data = make(rows=(rows, 1, 1))
    batches = TrainingBatches(data, 10, 8, Order(rows, rows, key=1))
    assert batches._together == {1: 16, 200: 16, 5000: 11}[rows]  # x 5000 x 35 scalars is under 2 million
    assert [batches[step].x.shape[0] for step in (0, 15, 16)] == [rows] * 3


def test_training_neither_reads_nor_moves_the_global_generator():
    data, order = make(), Order(23, 5, key=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = TrainingBatches(data, 12, 8, order)[4]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert same(first, TrainingBatches(data, 12, 8, Order(23, 5, key=1))[4])


def test_dynamic_bits_change_with_step_and_key_and_nothing_else():
    data = make(rows=(23, 1, 1))
    whole = Order(23, 23, key=1)
    whole.indices = lambda step: torch.arange(23)
    bits = TrainingBatches(data, 2, 8, whole)[0].x
    assert torch.equal(bits, TrainingBatches(data, 999, 8, whole)[0].x)
    assert not any(torch.equal(bits, TrainingBatches(data, 2, 8, whole)[step].x) for step in (1, 15, 16, 32))
    assert not torch.equal(bits, TrainingBatches(data, 2, 9, whole)[0].x)


@pytest.mark.parametrize("mode", ["fixed", "threshold", "none"])
def test_a_row_keeps_its_values_where_the_draw_is_fixed(mode):
    data, order = make(mode), Order(23, 5, key=1)
    known = torch.cat([batch.x for batch in fixed_batches(data, "train", 4, key=0)])
    for step in range(20):
        batch = TrainingBatches(data, 20, 8, order)[step]
        assert torch.equal(batch.x, known[batch.index])


@pytest.mark.parametrize("mode", ["dynamic", "fixed"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_evaluation_bits_depend_on_the_dataset_alone(mode, split):
    data = make(mode)
    whole = torch.cat([batch.x for batch in fixed_batches(data, split, 4, key=0)])
    assert whole.shape == getattr(data, split).shape
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    for size, key, limit in ((1, 0, None), (100, 1, None), (3, 2, 5)):
        again = torch.cat([batch.x for batch in fixed_batches(make(mode), split, size, key, limit=limit)])
        assert torch.equal(again, whole[: len(again)])
    other = torch.cat([batch.x for batch in fixed_batches(make(mode, digest="b"), split, 4, key=0)])
    assert not torch.equal(other, whole)


def test_dynamic_and_fixed_are_evaluated_on_the_same_bits():
    dynamic, fixed = (next(fixed_batches(make(mode), "test", 11, key=0)).x for mode in ("dynamic", "fixed"))
    assert torch.equal(dynamic, fixed)


def test_splits_have_their_own_bits():
    data = make("fixed", rows=(8, 8, 8))
    data.valid, data.test = data.train.clone(), data.train.clone()
    x = [next(fixed_batches(data, split, 8, key=0)).x for split in ("train", "valid", "test")]
    assert not torch.equal(x[0], x[1])
    assert not torch.equal(x[1], x[2])


def test_fixed_batches_cover_every_row_once_in_order():
    batches_ = list(fixed_batches(make("none"), "test", 4, key=0))
    assert [len(batch.x) for batch in batches_] == [4, 4, 3]
    assert torch.cat([batch.index for batch in batches_]).tolist() == list(range(11))
    assert all(batch.progress == 1 for batch in batches_)


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [(2, None, [4, 4]), (None, 6, [4, 2]), (1, 6, [4]), (9, 100, [4, 4, 3]), (0, None, [])],
)
def test_count_and_limit(count, limit, sizes):
    found = fixed_batches(make(), "test", 4, key=0, count=count, limit=limit)
    assert [len(batch.x) for batch in found] == sizes


def test_a_batch_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        next(fixed_batches(make(), "test", 0, key=0))


def test_keys_for_parts_differ_by_batch_and_seed():
    data, order = make(), Order(23, 5, key=1)
    keys = [batch.key for key in (0, 1) for batch in fixed_batches(data, "test", 4, key)]
    keys += [TrainingBatches(data, 9, key, order)[step].key for key in (10, 11) for step in range(5)]
    assert all(key.dtype == torch.int64 and key.shape == () for key in keys)
    assert len({int(key) for key in keys}) == len(keys)


def test_masks_are_carried():
    data, order = make(masks=True), Order(23, 5, key=1)
    batch = TrainingBatches(data, 9, 0, order)[2]
    assert torch.equal(batch.mask, data.masks["train"][batch.index])
    for split in ("valid", "test"):
        for batch in fixed_batches(data, split, 4, key=0):
            assert torch.equal(batch.mask, data.masks[split][batch.index])
    assert TrainingBatches(make(), 9, 0, order)[2].mask is None


def test_a_dataset_need_not_have_masks():
    data = make()
    names = ("train", "valid", "test", "x", "digest", "binarization")
    bare = SimpleNamespace(**{name: getattr(data, name) for name in names})
    assert isinstance(bare, Dataset)
    assert TrainingBatches(bare, 9, 0, Order(23, 5, key=1))[0].mask is None
    assert next(fixed_batches(bare, "valid", 4, key=0)).mask is None


@pytest.mark.parametrize("mode", MODES)
def test_batches_land_on_the_device_asked_for(mode):
    data = make(mode, masks=True)
    train = TrainingBatches(data, 9, 0, Order(23, 5, key=1), device="meta")[0]
    test = next(fixed_batches(data, "test", 4, key=0, device="meta"))
    for batch in (train, test):
        assert {t.device.type for t in (batch.x, batch.index, batch.mask)} == {"meta"}


def test_fixed_draws_are_made_once_and_dropped_with_their_data(monkeypatch):
    gc.collect()
    before = len(batches._fixed)
    data, order = make("fixed"), Order(23, 5, key=1)
    TrainingBatches(data, 9, 0, order)[0]
    assert len(batches._fixed) == before + 1
    monkeypatch.setattr(batches, "_bits", None)
    TrainingBatches(data, 9, 0, order)[1]
    del data
    gc.collect()
    assert len(batches._fixed) == before


def test_bits_drawn_again_are_others_of_the_same_rows():
    data = make("dynamic")
    first, second, again = (torch.cat([b.x for b in fixed_batches(data, "train", 4, 0, again=n)]) for n in (0, 1, 1))
    assert torch.equal(second, again)
    assert not torch.equal(first, second)
    few = torch.cat([b.x for b in fixed_batches(data, "train", 4, 0, count=2, again=1)])
    assert few.shape == second[:8].shape
    certain = (data.train == 0) | (data.train == 255)
    assert torch.equal(first[certain], second[certain])
    for mode in ("fixed", "threshold", "none"):
        one, other = (torch.cat([b.x for b in fixed_batches(make(mode), "train", 4, 0, again=n)]) for n in (0, 1))
        assert torch.equal(one, other)
