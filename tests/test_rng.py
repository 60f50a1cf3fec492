"""Randomness is a pure function of a key, the same alone and under vmap."""

import pytest
import torch
from scipy import stats
from torch.func import grad, vmap

import vbench.rng
from vbench.rng import Rng, derive

KEYS = torch.arange(7) * 1_000_003 - 3


def normals(key):
    return Rng(key).normal(3, 2, dtype=torch.float64)


def test_a_key_is_all_there_is():
    before = torch.random.get_rng_state()
    torch.testing.assert_close(normals(3), normals(3), rtol=0, atol=0)
    assert not torch.equal(normals(3), normals(4))
    assert torch.equal(normals(3), normals(torch.tensor(3)))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("key", [0, -1, 2**62, -(2**63), 2**63 - 1])
def test_any_64_bit_key_will_do(key):
    assert normals(key).isfinite().all()
    assert torch.equal(normals(key), normals(torch.tensor(key)))


def test_successive_draws_differ():
    rng = Rng(5)
    draws = torch.stack([rng.normal(4), rng.normal(4), rng.uniform(4), rng.uniform(4)])
    assert len(draws.unique()) == 16


def test_shapes_and_dtypes():
    rng = Rng(1)
    assert rng.normal().shape == ()
    assert rng.uniform(2, 0).shape == (2, 0)
    assert rng.normal(2).dtype == torch.get_default_dtype()
    for dtype in (torch.float32, torch.float64):
        assert rng.normal(2, dtype=dtype).dtype == rng.uniform(2, dtype=dtype).dtype == dtype


def test_a_lane_equals_the_same_key_alone():
    lanes = vmap(normals, randomness="error")(KEYS)
    for lane, key in zip(lanes, KEYS, strict=True):
        assert torch.equal(lane, normals(key))
    assert torch.equal(vmap(normals, randomness="error")(KEYS[2:4]), lanes[2:4])


def test_nested_lanes_equal_the_same_key_alone():
    keys = KEYS[:6].reshape(2, 3)
    for in_dims in (0, 1):
        nested = vmap(vmap(normals, randomness="error"), in_dims=in_dims, randomness="error")(keys)
        rows = keys if in_dims == 0 else keys.T
        for i, row in enumerate(rows):
            for j, key in enumerate(row):
                assert torch.equal(nested[i, j], normals(key))


def test_a_key_may_come_from_any_dimension():
    pairs = torch.stack([KEYS, KEYS + 1], 1)
    both = vmap(lambda pair: (normals(pair[0]), normals(pair[1])), in_dims=0, randomness="error")(pairs)
    assert torch.equal(both[1][4], normals(KEYS[4] + 1))


def test_a_key_shared_by_lanes_gives_them_the_same_draws():
    shared = vmap(lambda scale: scale * normals(9), randomness="error")(torch.tensor([1.0, 2.0]))
    assert torch.equal(shared[0], normals(9))
    assert torch.equal(shared[1], 2 * normals(9))


def test_gradients_pass_by():
    def loss(scale, key):
        return (scale * normals(key)).sum()

    slopes = vmap(grad(loss), in_dims=(None, 0), randomness="error")(torch.tensor(2.0, dtype=torch.float64), KEYS)
    torch.testing.assert_close(slopes, torch.stack([normals(key).sum() for key in KEYS]))


def test_children_are_functions_of_key_and_position():
    parent = Rng(8)
    first, second = parent.spawn(), parent.spawn()
    again = Rng(8).spawn()
    assert int(first.key) == int(again.key) != int(second.key)
    assert int(Rng(9).spawn().key) != int(first.key)
    lane = vmap(lambda key: Rng(key).spawn().normal(3), randomness="error")(torch.tensor([7, 8]))[1]
    assert torch.equal(lane, Rng(8).spawn().normal(3))


def test_parents_children_and_neighbours_are_independent():
    n = 4000

    def family(key):
        parent = Rng(key)
        child = parent.spawn()
        grandchild = child.spawn()
        later = parent.normal(dtype=torch.float64)
        own = [rng.normal(dtype=torch.float64) for rng in (child, grandchild, Rng(key), Rng(key + 1))]
        return torch.stack([later, *own])

    members = vmap(family, randomness="error")(2 * torch.arange(n))
    correlation = torch.corrcoef(members.T) - torch.eye(5)
    assert correlation.abs().max() < 4.5 / n**0.5


@pytest.mark.parametrize("across", ["keys", "one draw"])
def test_draws_have_their_distribution(across):
    n = 5000
    if across == "keys":
        draw = vmap(lambda key: torch.stack([Rng(key).normal(), Rng(key).uniform()]), randomness="error")
        normal, uniform = draw(torch.arange(n)).T
    else:
        normal, uniform = Rng(2).normal(n), Rng(3).uniform(n)
    assert stats.kstest(normal.double().numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(uniform.double().numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_uniform_draws_never_reach_the_ends(monkeypatch, dtype, edge):
    # half precision rounds some draws up to one; the others may meet zero
    monkeypatch.setattr(vbench.rng.torch, "rand", lambda shape, **kw: torch.full(shape, edge, dtype=kw["dtype"]))
    u = Rng(0).uniform(3, dtype=dtype)
    assert ((u > 0) & (u < 1)).all()
    assert ((u - edge).abs() < 1e-3).all()
    assert (u.log().isfinite() & torch.logit(u).isfinite()).all()


def test_derived_seeds_are_the_same_everywhere():
    assert derive("noise", 0) == 7875621319418962139
    # the published first output of splitmix64 from seed 0
    assert int(Rng(0).spawn().key) == 0xE220A8397B1DCDAF >> 1
    assert 0 <= derive() < 2**63


def test_derived_seeds_tell_their_parts_apart():
    parts = [("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("a",), (), ("", "a"), ("a", ""), (11,), (1, 1)]
    assert len({derive(*p) for p in parts}) == len(parts)
