"""Our step of Adam against torch's, bit for bit, and every name that a grid may give."""

from typing import get_args

import pytest
import torch
from torch import nn

from vbench.grid import Train
from vbench.optimizers import OPTIMIZERS, SCHEDULES, Group, schedule

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


def test_every_schedule_of_a_grid_is_known():
    assert set(SCHEDULES) == set(get_args(Train.model_fields["schedule"].annotation))


@pytest.mark.parametrize("name", THEIRS)
def test_a_factor_is_of_every_learning_rate_from_then_on(name):
    ours, theirs = twins()
    moved = OPTIMIZERS[name]([Group(params, lr) for params, lr in ours])
    reference = THEIRS[name]([{"params": params, "lr": lr} for params, lr in theirs])
    pairs = [pair for (a, _), (b, _) in zip(ours, theirs, strict=True) for pair in zip(a, b, strict=True)]
    for step, factor in enumerate((1.0, 0.25, 0.0, 2.0)):
        for index, (p, q) in enumerate(pairs):
            p.grad, q.grad = (gradients(step, index, p.shape, p.dtype) for _ in range(2))
        before = [p.detach().clone() for p, _ in pairs]
        moved.factor = factor
        for group, (_, lr) in zip(reference.param_groups, theirs, strict=True):
            group["lr"] = factor * lr
        moved.step()
        reference.step()
        assert all(torch.equal(p, q) for p, q in pairs), f"step {step}"
        assert factor or all(torch.equal(p, old) for (p, _), old in zip(pairs, before, strict=True))


STEPS = 23
TORCHS = {
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS),
    "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=STEPS),
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=5, gamma=0.3),
    "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0),
}


@pytest.mark.parametrize("warmup", [0, 6])
@pytest.mark.parametrize("name", TORCHS)
def test_schedules_are_torchs(name, warmup):
    optimizer = torch.optim.SGD(parameters((2,)), lr=1.0)
    theirs = [TORCHS[name](optimizer)]
    if warmup:
        theirs.append(torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, total_iters=warmup - 1))
    train = Train(steps=STEPS, schedule=name, warmup=warmup, step_size=5, gamma=0.3)
    seen = []
    for step in range(STEPS):
        seen.append(schedule(train, step, step / STEPS))
        assert seen[-1] == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12), step
        optimizer.step()
        for each in theirs:
            each.step()
    assert name == "constant" or seen[-1] < 0.3
    assert seen[0] == (1 / warmup if warmup else 1)
