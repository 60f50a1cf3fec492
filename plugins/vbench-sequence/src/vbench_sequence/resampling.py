r"""Ancestors of the next generation of particles, each scheme unbiased: E[number of children of k] = K W_k.

The cumulated weights are inverted at K points of [0, 1): independent uniforms (``multinomial``), one in each of K equal
parts (``stratified``), or a grid of K with one random offset (``systematic``). Every datum has points of its own.

Source: Douc, Cappe & Moulines (2005), Comparison of Resampling Schemes for Particle Filtering, arXiv:cs/0507025.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vbench import Rng, State

__all__ = ["Scheme", "ancestors", "effective", "inherit"]

Scheme = Literal["multinomial", "stratified", "systematic"]


def ancestors(weight: Tensor, scheme: Scheme, rng: Rng) -> Tensor:
    """Index of the ancestor of each particle, ``[K, B]``, from normalised weights ``[K, B]``."""
    k, size = weight.shape
    u = rng.uniform(1 if scheme == "systematic" else k, size, dtype=weight.dtype)
    if scheme != "multinomial":
        u = (torch.arange(k, dtype=u.dtype, device=u.device)[:, None] + u) / k
    # not searchsorted: comparisons run under any transform, and K is small
    passed = (weight.cumsum(0)[:, None] <= u).sum(0)
    return passed.clamp(max=k - 1)  # the weights may sum to less than one by rounding


def effective(weight: Tensor) -> Tensor:
    """Effective sample size 1 / sum W^2 of normalised weights ``[K, B]``: ``[B]``, 1 to K."""
    return 1 / weight.square().sum(0)


def inherit(state: State, parents: Tensor) -> State:
    """The state ``[K, B, ...]`` of each particle's ancestor ``[K, B]``."""
    return tuple(
        part.gather(0, parents.reshape(*parents.shape, *[1] * (part.dim() - 2)).expand_as(part)) for part in state
    )
