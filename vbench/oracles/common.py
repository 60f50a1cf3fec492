"""What the oracles share: float64 views of a model, sums over multisets of atoms, and a gradient by name."""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from vbench.model import rebuilt
from vbench.types import Atoms, Batch, Bound, Objective, Target

__all__ = ["LIMIT", "expected_bound", "expected_objective", "expected_target", "gradient", "in_double", "multisets"]

LIMIT: Final = 1 << 21  # multisets times data of one exact sum: about 0.5 GB with its graph at k = 3
_M = TypeVar("_M", bound=nn.Module)


def in_double(model: _M, batch: Batch) -> tuple[_M, Batch]:
    """``model`` and ``batch`` with all numbers in float64, differentiable in the model's own parameters."""
    double = rebuilt(model, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    return double, batch._replace(x=batch.x.double())


def gradient(value: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Gradient of the batch mean of ``value [B]`` for every trained parameter by name; zero for idle ones."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    mean = value.mean()
    if not named or not mean.requires_grad:
        return {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    parts = torch.autograd.grad(mean, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, parts, strict=True))


def multisets(atoms: int, k: int) -> tuple[Tensor, Tensor]:
    """Every multiset of k atoms: sorted indices ``[M, k]``, log of its number of orderings ``[M]``."""
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

    .. math:: \sum_{\{s_1, \ldots, s_K\}} \frac{K!}{\prod_s n_s!} \prod_k m_{s_k}\;
       l(\log w_{s_1}, \ldots, \log w_{s_K})

    One term for each multiset, C(S + K - 1, K) of them, where n_s counts the atom s. A linear bound needs
    K = 1 only.

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
    atoms = len(log_w)
    if bound.linear:
        if not torch.allclose(bound(log_w.detach()), log_w.detach().mean(0)):
            raise ValueError(f"{bound} calls itself linear and is not a mean of log weights")
        k = 1
    index, mass = _terms(atoms, k, log_mass.expand_as(log_w), limit)
    return (mass * bound(_chosen(log_w, index)).reshape(mass.shape)).sum(0)


def expected_objective(
    objective: Objective, model: Any, batch: Batch, q: Atoms, p: Atoms, limit: int = LIMIT
) -> Tensor:
    """The objective's own expectation, ``[B]``; it may take every pair of atoms.

    Raises:
        ValueError: where there are too many pairs, or the objective has no exact value here.
    """
    atoms = max(len(q.z), len(p.z))
    if atoms**2 * len(batch.x) > limit:
        raise ValueError(f"too many pairs of {atoms} atoms for each of {len(batch.x)} data, above the limit of {limit}")
    return objective.expectation(model, batch, q, p)


def expected_target(
    target: Target, k: int, log_p: Tensor, log_q: Tensor, log_mass: Tensor, limit: int = LIMIT
) -> Tensor:
    """The field whose gradient is the target's expectation over K independent draws from S atoms, ``[B]``.

    As :func:`expected_bound`, but probabilities are held fixed: a target is a mean of gradients at fixed draws.

    Args:
        target: the field, ``[K, B], [K, B] -> [B]``, indifferent to the order of its K draws.
        k: number of draws K.
        log_p: log joint of the atoms ``[S, B]``, nats.
        log_q: log density of the atoms ``[S, B]``, nats.
        log_mass: log probabilities of the atoms ``[S, B]`` or ``[S, 1]``.
        limit: largest number of multisets times data.

    Raises:
        ValueError: where there are too many terms.
    """
    index, mass = _terms(len(log_p), k, log_mass.detach().expand_as(log_p), limit)
    return (mass * target(_chosen(log_p, index), _chosen(log_q, index)).reshape(mass.shape)).sum(0)


def _terms(atoms: int, k: int, log_mass: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Every multiset of k atoms ``[M, k]`` and its probability for each datum ``[M, B]``."""
    size = log_mass.shape[1]
    terms = math.comb(atoms + k - 1, k)
    if terms * size > limit:
        raise ValueError(
            f"too many terms for an exact sum: {atoms} states at k={k} make {terms} multisets "
            f"for each of {size} data, above the limit of {limit} in all"
        )
    index, log_orders = (t.to(log_mass.device) for t in multisets(atoms, k))
    return index, (log_mass[index].sum(1) + log_orders[:, None]).exp()


def _chosen(values: Tensor, index: Tensor) -> Tensor:
    """Values ``[S, B]`` of the atoms of each multiset, ``[K, M * B]``."""
    return values[index].movedim(1, 0).flatten(1)
