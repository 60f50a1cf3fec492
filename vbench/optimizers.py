"""Optimisers by the names that a grid has for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vbench.grid import Train

__all__ = ["OPTIMIZERS", "SCHEDULES", "Adam", "Group", "NaturalGradient", "Optimizer", "schedule"]


_DEFAULTS: Final = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}


class Group(NamedTuple):
    """Parameters with one learning rate."""

    params: Sequence[nn.Parameter]
    lr: float


class Optimizer(Protocol):
    """Moves parameters along their gradients; those that have none stay where they are.

    Attributes:
        state: what it keeps of each parameter, tensors by name; its next move depends on this and on ``factor`` alone.
        factor: of every learning rate, for a schedule to set before a move.
    """

    state: Any
    factor: float

    def step(self) -> Any:
        """Move once."""
        ...


class Adam:
    """Torch's fused kernel with its lists made once: bit for bit ``torch.optim.Adam(fused=True)``.

    Hooks, profiling and grouping take ``torch.optim.Adam.step`` as long as the kernel does, 5% of a step of a VAE
    with two layers of 200.

    Args:
        groups: what is moved, and how far.
        weight_decay: decoupled; AdamW where it is not zero.

    Source: Kingma & Ba (2015), Adam: A Method for Stochastic Optimization, arXiv:1412.6980; Loshchilov & Hutter (2019),
    Decoupled Weight Decay Regularization, arXiv:1711.05101.
    """

    def __init__(self, groups: Sequence[Group], weight_decay: float = 0.0) -> None:
        self._kernel: Any = torch._fused_adamw_ if weight_decay else torch._fused_adam_
        self._weight_decay, self.factor = weight_decay, 1.0
        alike: dict[tuple[float, torch.device, torch.dtype], list[nn.Parameter]] = {}
        for params, lr in groups:
            for p in params:
                alike.setdefault((lr, p.device, p.dtype), []).append(p)
        self._moments = [_Moments(lr, params) for (lr, *_), params in alike.items()]
        self.state = {p: state for moments in self._moments for p, state in moments.states()}

    def step(self) -> None:
        """Move once."""
        with torch.no_grad():
            for moments in self._moments:
                columns = moments.moved()
                if columns[0]:
                    self._kernel(*columns, lr=self.factor * moments.lr, weight_decay=self._weight_decay, **_DEFAULTS)


class _Moments:
    """Parameters with one learning rate, device and type, and what Adam keeps of them."""

    def __init__(self, lr: float, params: list[nn.Parameter]) -> None:
        self.lr, self._params = lr, params
        self._means = [torch.zeros_like(p) for p in params]
        self._squares = [torch.zeros_like(p) for p in params]
        self._counts = torch.zeros(len(params), device=params[0].device)  # of moves
        self._count = self._counts.unbind()

    def states(self) -> Iterator[tuple[nn.Parameter, dict[str, Tensor]]]:
        """What is kept of each parameter: the tensors themselves, by torch's names."""
        for p, mean, square, count in zip(self._params, self._means, self._squares, self._count, strict=True):
            yield p, {"exp_avg": mean, "exp_avg_sq": square, "step": count}

    def moved(self) -> tuple[Sequence[Tensor], ...]:
        """Parameters that have a gradient, and all that the kernel wants to know of them; one move more is counted."""
        gradients = [p.grad for p in self._params]
        whole: tuple[Sequence[Any], ...] = (self._params, gradients, self._means, self._squares, [], self._count)
        moving = [place for place, gradient in enumerate(gradients) if gradient is not None]
        if len(moving) == len(gradients):
            self._counts += 1
            return whole
        self._counts[moving] += 1
        return tuple([column[place] for place in moving] if column else [] for column in whole)


class NaturalGradient:
    """Plain steps for the first group, whose gradients are natural ones already, and Adam for the others.

    Args:
        groups: the encoder's parameters first.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._own, self._others, self.factor = groups[0], Adam(groups[1:]), 1.0
        self.state = self._others.state

    def step(self) -> None:
        """Move once."""
        with torch.no_grad():
            for p in self._own.params:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=self.factor * self._own.lr)
        self._others.factor = self.factor
        self._others.step()


class _Torchs:
    """One of torch's own, its learning rates multiplied by a factor."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self._inner, self.state = inner, inner.state
        self._lr = [group["lr"] for group in inner.param_groups]
        self.factor = 1.0

    def step(self) -> None:
        """Move once."""
        for group, lr in zip(self._inner.param_groups, self._lr, strict=True):
            group["lr"] = self.factor * lr
        self._inner.step()


def _torch(kind: type[torch.optim.Optimizer], **options: Any) -> Callable[[Sequence[Group]], Optimizer]:
    return lambda groups: _Torchs(kind([group._asdict() for group in groups], **options))


OPTIMIZERS: Final[Mapping[str, Callable[[Sequence[Group]], Optimizer]]] = {
    "adam": Adam,
    "adamw": lambda groups: Adam(groups, weight_decay=0.01),
    "natural-gradient": NaturalGradient,
    "rmsprop": _torch(torch.optim.RMSprop),
    "sgd": _torch(torch.optim.SGD, fused=True),
}
"""Name -> an optimiser of these groups, with torch's defaults."""


SCHEDULES: Final[Mapping[str, Callable[[Train, int, float], float]]] = {
    "constant": lambda train, step, share: 1.0,
    "cosine": lambda train, step, share: (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda train, step, share: 1 - share,
    "step": lambda train, step, share: train.gamma ** (step // train.step_size),
}
"""Name -> factor of the learning rate at a step, from zero on, as torch's schedulers have it.

``CosineAnnealingLR(T_max=steps)``, ``LinearLR(1, 0, total_iters=steps)`` and ``StepLR(step_size, gamma)``. Source:
Loshchilov & Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts, arXiv:1608.03983.
"""


def schedule(train: Train, step: int, share: float) -> float:
    """Factor of every learning rate at a step, when that share of training is done: so a run goes on with its bits.

    The first ``warmup`` steps rise in a line from ``1 / warmup`` of it. Source: Goyal et al. (2017), Accurate, Large
    Minibatch SGD: Training ImageNet in 1 Hour, arXiv:1706.02677.
    """
    return SCHEDULES[train.schedule](train, step, share) * min(1.0, (step + 1) / max(train.warmup, 1))
