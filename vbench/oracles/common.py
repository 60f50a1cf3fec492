"""What the oracles share: float64 views of a model, sums over multisets of atoms, and a gradient by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vbench.types import Batch, Bound

__all__ = ["LIMIT", "expected_bound", "gradient", "in_double", "multisets"]

LIMIT: Final = 1 << 21  # multisets times data of one exact sum: about 0.5 GB with its graph at k = 3
_T = TypeVar("_T")


class _Call(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[Any, Batch], Any], batch: Batch) -> Any:
        return function(self.model, batch)


def in_double(function: Callable[[Any, Batch], _T], model: nn.Module, batch: Batch) -> _T:
    """``function(model, batch)`` with parameters, buffers and data in float64, differentiable in the model's own.

    The model that ``function`` sees holds these only until it returns: evaluate everything inside.
    """
    call = _Call(model)
    named = [*call.named_parameters(), *call.named_buffers()]
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in named}
    result: _T = functional_call(call, state, (function, batch._replace(x=batch.x.double())))
    return result


def gradient(value: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Gradient of the batch mean of ``value [B]`` for every trained parameter by name; zeros where it has none."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    mean = value.mean()
    if not named or not mean.requires_grad:
        return {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    parts = torch.autograd.grad(mean, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, parts, strict=True))


def multisets(atoms: int, k: int) -> tuple[Tensor, Tensor]:
    """Every multiset of k out of ``atoms``: sorted indices ``[M, k]`` and the log of its number of orderings ``[M]``."""
    index = torch.arange(atoms)[:, None]
    run = torch.ones(atoms, dtype=torch.float64)
    log_orders = torch.zeros(atoms, dtype=torch.float64)
    for size in range(2, k + 1):
        last = index[:, -1]
        after = atoms - last
        before = (after.cumsum(0) - after).repeat_interleave(after)
        index, run, log_orders = (t.repeat_interleave(after, 0) for t in (index, run, log_orders))
        following = torch.arange(len(index)) - before
        index = torch.cat([index, index[:, -1:] + following[:, None]], 1)
        run = torch.where(following == 0, run + 1, 1)
        log_orders = log_orders + math.log(size) - run.log()
    return index, log_orders


def expected_bound(bound: Bound, k: int, log_w: Tensor, log_mass: Tensor, limit: int = LIMIT) -> Tensor:
    r"""Expectation of a symmetric bound over K independent draws from S atoms, differentiable in both inputs.

    .. math:: \sum_{\{s_1, \ldots, s_K\}} \frac{K!}{\prod_s n_s!} \prod_k m_{s_k}\; l(\log w_{s_1}, \ldots, \log w_{s_K})

    One term for each multiset, C(S + K - 1, K) of them, where n_s counts the atom s. A linear bound needs K = 1 only.

    Args:
        bound: the function l, ``[K, B] -> [B]``, indifferent to the order of its K arguments.
        k: number of draws K.
        log_w: log weights of the atoms ``[S, B]``, nats.
        log_mass: log probabilities of the atoms ``[S, B]`` or ``[S, 1]``.
        limit: largest number of multisets times data.

    Returns:
        ``[B]``, nats.

    Raises:
        ValueError: where there are too many terms, or a bound that calls itself linear is not a mean.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    atoms, size = log_w.shape
    if bound.linear:
        if not torch.allclose(bound(log_w.detach()), log_w.detach().mean(0)):
            raise ValueError(f"{bound} calls itself linear and is not a mean of log weights")
        k = 1
    terms = math.comb(atoms + k - 1, k)
    if terms * size > limit:
        raise ValueError(
            f"too many terms for an exact sum: {atoms} states at k={k} make {terms} multisets for each of {size} data, "
            f"above the limit of {limit} in all"
        )
    index, log_orders = (t.to(log_w.device) for t in multisets(atoms, k))
    log_mass = log_mass.expand_as(log_w)
    values = bound(log_w[index].movedim(1, 0).flatten(1)).unflatten(0, (terms, size))
    mass = (log_mass[index].sum(1) + log_orders[:, None]).exp()
    return (mass * values).sum(0)
