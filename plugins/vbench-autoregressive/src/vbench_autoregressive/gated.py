"""Gated convolutions that see only what stands before a pixel, in a vertical and a horizontal stack."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Channels", "GatedLayer", "GatedStack", "Layers", "OutputBias", "Reach", "pixel_bias"]

Channels = Annotated[int, Ge(1), "feature maps of each stack"]
Layers = Annotated[int, Ge(1), "gated layers"]
Reach = Annotated[int, Ge(1), "rows above and columns to either side that a pixel sees"]
OutputBias = Annotated[Literal["mean", "zero"], "where the pixels' bias starts: at the training mean, or at zero"]


class GatedLayer(nn.Module):
    """One layer of both stacks, ``[N, C, H, W]`` each.

    The vertical stack sees ``radius`` rows above and as many columns to either side, the horizontal stack as many
    pixels to the left and what the vertical one has gathered; the pixel itself too, but not in the ``first`` layer,
    where it is what is to be predicted. Kernels have no weight where a mask would be zero.
    """

    def __init__(self, inputs: int, channels: int, condition: int, radius: int, first: bool) -> None:
        super().__init__()
        self.radius, self.first, self.residual = radius, first, inputs == channels
        own = 0 if first else 1
        self.vertical = nn.Conv2d(inputs, 2 * channels, (radius + own, 2 * radius + 1))
        self.horizontal = nn.Conv2d(inputs, 2 * channels, (1, radius + own))
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.condition = nn.Conv2d(condition, 4 * channels, 1, bias=False) if condition else None

    def forward(self, v: Tensor, h: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both stacks, given a condition ``[N, M, H, W]``, or ``[N, M, 1, 1]`` where it is the same everywhere."""
        r = self.radius
        above, left = functional.pad(v, (r, r, r, 0)), functional.pad(h, (r, 0, 0, 0))
        if self.first:
            above, left = above[:, :, :-1], left[..., :-1]
        v = self.vertical(above)
        h, before = self.horizontal(left) + self.across(v), h
        if self.condition is not None and condition is not None:
            for_v, for_h = self.condition(condition).chunk(2, 1)
            v, h = v + for_v, h + for_h
        h = self.out(_gate(h))
        return _gate(v), h + before if self.residual else h


def _gate(features: Tensor) -> Tensor:
    signal, gate = features.chunk(2, 1)
    return signal.tanh() * gate.sigmoid()


class GatedStack(nn.Module):
    """Layers whose radii add up to ``reach``: a pixel sees those before it in a square of ``2 reach + 1``.

    Attributes:
        reach: rows above, and columns to either side, that a pixel sees.
    """

    def __init__(self, condition: int, channels: int, layers: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        share, rest = divmod(reach, layers)
        radii = [share + (number < rest) for number in range(layers)]
        self.layers = nn.ModuleList(
            GatedLayer(1 if number == 0 else channels, channels, condition, radius, number == 0)
            for number, radius in enumerate(radii)
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, 1, 1))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """``[N, H, W] -> [N, H, W]``: of each pixel, by those before it."""
        v = h = 2 * x[:, None] - 1  # beyond the edge there are zeros
        for layer in self.layers:
            v, h = layer(v, h, condition)
        out: Tensor = self.head(h)[:, 0]
        return out


def pixel_bias(mean: Tensor, start: str) -> nn.Parameter:
    """One logit for each pixel, at the training mean (clipped to [.001, .999]) or at zero."""
    return nn.Parameter(mean.clamp(0.001, 0.999).logit() if start == "mean" else torch.zeros_like(mean))
