"""Ancestors: as many children as the weights promise, on average and, but for multinomial draws, nearly always."""

import pytest
import torch
from torch.func import vmap
from vbench_sequence.resampling import ancestors, effective, inherit

from vbench import Rng

SCHEMES = ("multinomial", "stratified", "systematic")
WEIGHT = torch.tensor([0.05, 0.4, 0.0, 0.32, 0.23], dtype=torch.float64)
every = pytest.mark.parametrize("scheme", SCHEMES)


def children(scheme, n=20_000, seed=1):
    drawn = ancestors(WEIGHT[:, None].expand(5, n), scheme, Rng(seed))
    return drawn, (drawn[:, None] == torch.arange(5)[None, :, None]).sum(0).double()  # [5, n]


@every
def test_each_particle_has_k_w_children_on_average(scheme):
    drawn, count = children(scheme)
    error = (count.mean(1) - 5 * WEIGHT) / (count.std(1) / count.shape[1] ** 0.5).clamp(min=1e-9)
    assert error.abs().max() < 4.5
    assert not count[2].any()
    assert drawn.min() >= 0


def test_the_spread_of_each_scheme():
    independent, stratified, systematic = (children(scheme)[1] for scheme in SCHEMES)
    expected = 5 * WEIGHT * (1 - WEIGHT)
    torch.testing.assert_close(independent.var(1), expected, rtol=0.05, atol=1e-3)
    assert ((systematic - 5 * WEIGHT[:, None]).abs() < 1).all()
    assert ((stratified - 5 * WEIGHT[:, None]).abs() < 2).all()
    assert (stratified.var(1) <= independent.var(1) + 1e-9).all()


@every
def test_data_draw_apart(scheme):
    drawn = ancestors(WEIGHT[:, None].expand(5, 2), scheme, Rng(3))
    alone = ancestors(WEIGHT[:, None].expand(5, 2), scheme, Rng(3))
    assert torch.equal(drawn, alone)
    pairs = torch.stack([ancestors(WEIGHT[:, None].expand(5, 2), scheme, Rng(s)).sum(0) for s in range(2000)]).double()
    assert abs(torch.corrcoef(pairs.T)[0, 1]) < 4 / 2000**0.5


@every
def test_weights_that_miss_one_by_rounding_lose_nobody(scheme):
    weight = torch.full((3, 4000), 1 / 3) - 1e-4
    drawn = ancestors(weight, scheme, Rng(2))
    assert drawn.max() == 2


@every
def test_a_lane_of_a_vmap_draws_what_it_draws_alone(scheme):
    keys = torch.arange(4)
    weight = WEIGHT[:, None].expand(5, 3)
    lanes = vmap(lambda key: ancestors(weight, scheme, Rng(key)), randomness="error")(keys)
    assert all(torch.equal(lanes[i], ancestors(weight, scheme, Rng(int(key)))) for i, key in enumerate(keys))


def test_effective_sample_size_and_inheritance():
    weight = torch.tensor([[0.25, 1.0], [0.25, 0.0], [0.5, 0.0]])
    torch.testing.assert_close(effective(weight), torch.tensor([1 / 0.375, 1.0]))
    state = torch.arange(6.0).reshape(3, 2), torch.arange(12.0).reshape(3, 2, 2)
    parents = torch.tensor([[2, 0], [2, 1], [0, 0]])
    flat, deep = inherit(state, parents)
    assert flat.tolist() == [[4, 1], [4, 3], [0, 1]]
    assert deep[1].tolist() == [[8, 9], [6, 7]]
