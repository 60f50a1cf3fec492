import pytest
import torch
from scipy import stats
from torch.func import vmap

from vbench.measure.replay import DatumRng, RecordingRng, ReplayingRng, latin
from vbench.rng import Rng

CPU = torch.device("cpu")


def many(kind, half, n, shape=(3,)):
    """``[n, 2 h, *shape]``."""
    return torch.stack([latin(key, half, kind, shape, torch.float64, CPU) for key in range(n)])


@pytest.mark.parametrize("half", [3, 13])
def test_each_draw_is_distributed_as_ever(half):
    uniform, normal = many("uniform", half, 3000), many("normal", half, 3000)
    for draw in (0, half - 1, half, 2 * half - 1):
        assert stats.kstest(uniform[:, draw].flatten(), "uniform").pvalue > 1e-3
        assert stats.kstest(normal[:, draw].flatten(), "norm").pvalue > 1e-3
    coordinates = torch.corrcoef(uniform[:, 0].T)
    assert (coordinates - torch.eye(3)).abs().max() < 4 / 3000**0.5


@pytest.mark.parametrize("half", [3, 7])
def test_a_half_visits_every_stratum_once_and_the_other_half_knows_nothing_of_it(half):
    uniform = many("uniform", half, 4000, (2,))
    strata = (uniform * half).floor()
    for part in (strata[:, :half], strata[:, half:]):
        assert torch.equal(part.sort(1).values, torch.arange(half, dtype=torch.float64)[:, None].expand_as(part))
    # two draws of one half: any two different strata alike; two of different halves: any two strata
    within = (strata[:, 0] * half + strata[:, 2]).flatten().long().bincount(minlength=half**2).view(half, half)
    across = (strata[:, 0] * half + strata[:, half]).flatten().long().bincount(minlength=half**2)
    assert within.diagonal().sum() == 0
    assert stats.chisquare(within[~torch.eye(half, dtype=torch.bool)]).pvalue > 1e-3
    assert stats.chisquare(across).pvalue > 1e-3


def test_a_mean_over_a_half_loses_what_is_additive():
    normal = many("normal", 13, 2000)
    additive, product = normal.square().sum(2), normal.prod(2)
    for values, low, high in ((additive, 0.15, 0.35), (product, 0.85, 1.15)):
        halves = values.view(-1, 13).mean(1)
        assert low < float(halves.var() * 13 / values.var()) < high


def test_numbers_of_a_datum_are_its_own():
    def draws(keys):
        lanes = torch.arange(len(keys) * 6)

        def one(lane):
            rng = DatumRng(lane, keys, 3, CPU)
            return rng.normal(2), rng.spawn().uniform(1, dtype=torch.float64), rng.normal(1)

        return vmap(one, randomness="error")(lanes)

    together, alone = draws([5, 9]), draws([9])
    assert all(torch.equal(a[6:], b) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(together[0][:6], together[0][6:])
    assert not torch.equal(alone[0][:, :1], alone[2])  # every call draws anew
    assert alone[1].dtype == torch.float64


def test_lanes_are_given_what_the_batch_drew():
    drawn = []
    recording = RecordingRng(3, CPU, drawn)
    batch = recording.normal(2, 4, 3), recording.spawn().uniform(4), recording.uniform(2, 4)
    plain = Rng(3)
    assert torch.equal(batch[0], plain.normal(2, 4, 3))
    assert torch.equal(batch[1], plain.spawn().uniform(4))

    def one(lane):
        rng = ReplayingRng(lane, drawn, 4)
        return rng.normal(2, 1, 3), rng.spawn().uniform(1), rng.uniform(2, 1)

    lanes = vmap(one, randomness="error")(torch.arange(4))
    assert torch.equal(lanes[0][:, :, 0], batch[0].movedim(1, 0))
    assert torch.equal(lanes[1][:, 0], batch[1])
    assert torch.equal(lanes[2][:, :, 0], batch[2].T)


def test_shared_numbers_are_not_dealt_out():
    drawn = []
    RecordingRng(3, CPU, drawn).normal(2, 1, 3)
    with pytest.raises(RuntimeError, match="share random numbers"):
        vmap(lambda lane: ReplayingRng(lane, drawn, 4).normal(2, 1, 3), randomness="error")(torch.arange(4))
