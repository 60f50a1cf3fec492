"""Our step of Adam against torch's, bit for bit, and every name that a grid may give."""

from typing import get_args

import pytest
import torch
from torch import nn

from vbench.grid import Train
from vbench.optimizers import OPTIMIZERS, Group

THEIRS = {
    "adam": lambda groups: torch.optim.Adam(groups, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "sgd": lambda groups: torch.optim.SGD(groups, fused=True),
}


def parameters(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def twins():
    """Two groups twice: one learning rate each, odd sizes, two types."""
    return [
        [(parameters((7, 3), (5,), ()), 0.1), (parameters((4,), dtype=torch.float64) + parameters((2, 2)), 0.03)]
        for _ in range(2)
    ]


def gradients(step, index, shape, dtype):
    """None now and then: a part of a model that a batch did not use."""
    if (step + index) % 4 == 1:
        return None
    generator = torch.Generator().manual_seed(100 * step + index)
    return torch.randn(shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", THEIRS)
def test_steps_are_torchs_bit_for_bit(name):
    ours, theirs = twins()
    moved = OPTIMIZERS[name]([Group(params, lr) for params, lr in ours])
    reference = THEIRS[name]([{"params": params, "lr": lr} for params, lr in theirs])
    pairs = [pair for (a, _), (b, _) in zip(ours, theirs, strict=True) for pair in zip(a, b, strict=True)]
    before = [p.detach().clone() for p, _ in pairs]
    for step in range(9):
        for index, (p, q) in enumerate(pairs):
            p.grad, q.grad = (gradients(step, index, p.shape, p.dtype) for _ in range(2))
        moved.step()
        reference.step()
        assert all(torch.equal(p, q) for p, q in pairs), f"step {step}"
    assert not any(torch.equal(p, old) for (p, _), old in zip(pairs, before, strict=True))


def test_every_optimizer_of_a_grid_is_known():
    assert set(OPTIMIZERS) == set(get_args(Train.model_fields["optimizer"].annotation))
