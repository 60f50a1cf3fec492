"""Optimisers by the names that a grid has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor, nn

__all__ = ["OPTIMIZERS", "Adam", "Group", "Optimizer"]


_DEFAULTS: Final = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}


class Group(NamedTuple):
    """Parameters with one learning rate."""

    params: Sequence[nn.Parameter]
    lr: float


class Optimizer(Protocol):
    """Moves parameters along their gradients; those that have none stay where they are.

    Attributes:
        state: what it keeps of each parameter, tensors by name; its next move depends on nothing else.
    """

    state: Any

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
        self._weight_decay = weight_decay
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
                    self._kernel(*columns, lr=moments.lr, weight_decay=self._weight_decay, **_DEFAULTS)


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


def _torch(kind: type[torch.optim.Optimizer], **options: Any) -> Callable[[Sequence[Group]], Optimizer]:
    return lambda groups: kind([group._asdict() for group in groups], **options)


OPTIMIZERS: Final[Mapping[str, Callable[[Sequence[Group]], Optimizer]]] = {
    "adam": Adam,
    "adamw": lambda groups: Adam(groups, weight_decay=0.01),
    "rmsprop": _torch(torch.optim.RMSprop),
    "sgd": _torch(torch.optim.SGD, fused=True),
}
"""Name -> an optimiser of these groups, with torch's defaults."""
