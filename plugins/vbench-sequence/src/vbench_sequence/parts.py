"""What the parts share: sequence spaces, nets, the scale of a normal, the mean of a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vbench import DiagonalNormal, Incompatible, Space

__all__ = ["latent_size", "mean_of_step", "net", "normal", "steps_of", "width"]

_FLOOR = 1e-3  # of a scale that a net gives: a variance that vanishes would end training


def steps_of(x: Space) -> int:
    """Number of steps of data ``[T, *X]``.

    Raises:
        Incompatible: data are no sequences.
    """
    if len(x.shape) < 2:
        raise Incompatible(f"data of shape {list(x.shape)} are no sequences: [T, X] is needed")
    return x.shape[0]


def width(x: Space) -> int:
    """Number of scalars of one step of data."""
    return x.size // steps_of(x)


def latent_size(z: Space) -> int:
    """D of latents ``[T, D]``.

    Raises:
        Incompatible: latents are no sequences.
    """
    if len(z.shape) != 2 or z.support != "real":
        raise Incompatible(f"{z.support} latents of shape {list(z.shape)} are no sequences: real [T, D] is needed")
    return z.shape[1]


def net(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ELU between them: a narrow net has a gradient everywhere."""
    layers: list[nn.Module] = []
    for left, right in pairwise([inputs, *hidden, outputs]):
        layers += [nn.Linear(left, right), nn.ELU()]
    return nn.Sequential(*layers[:-1])


def normal(raw: Tensor) -> DiagonalNormal:
    """From mean and raw scale side by side."""
    loc, scale = raw.chunk(2, -1)
    return DiagonalNormal(loc, functional.softplus(scale) + _FLOOR)


def mean_of_step(data: Tensor) -> Tensor:
    """Mean of a step ``[*X]`` over all of ``data [n, T, *X]`` but steps of zeros at an end, which may be padding."""
    if data.dim() < 3:
        raise Incompatible(f"data of shape {list(data.shape[1:])} are no sequences: [T, X] is needed")
    alive = (data != 0).flatten(2).any(2).flip(1).cumsum(1).flip(1) > 0
    mean = data[alive].float().mean(0)
    return mean / 255 if data.dtype == torch.uint8 else mean
